"""What commands share in talking to people: errors, sizes, ages, common options."""

import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer


def _unless_a_folder_was_given(context: typer.Context, url: str | None) -> str | None:
    """An address from the environment gives way to a folder named on the command line."""
    sources = [getattr(context.get_parameter_source(name), "name", "") for name in ("url", "state_dir")]
    return None if sources == ["ENVIRONMENT", "COMMANDLINE"] else url


StateDir = Annotated[
    Path | None,
    typer.Option(
        "--state-dir",
        envvar="FTSIM_STATE_DIR",
        help="Folder with the emulator's state; a folder of your own by default.",
        show_default=False,
        is_eager=True,
    ),
]
Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="FIREWORKS_BASE_URL",
        help="Address of the service; by default the emulator of the state folder.",
        show_default=False,
        callback=_unless_a_folder_was_given,
    ),
]
ApiKey = Annotated[
    str | None,
    typer.Option("--api-key", envvar="FIREWORKS_API_KEY", help="Key for --url.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def fail(message: str, status: int = 1) -> NoReturn:
    """Say on stderr who speaks and what is wrong, and leave."""
    print(f"ftsim: {message.removeprefix('ftsim: ')}", file=sys.stderr)
    raise SystemExit(status)


def print_wide(table: Any) -> None:
    """As wide as the names in it need: they are long, and wanted whole."""
    from rich.console import Console

    console = Console()
    needed = console.measure(table, options=console.options.update(max_width=1000)).maximum
    Console(width=max(console.width, needed)).print(table)


def yes_no(value: bool) -> str:
    return "yes" if value else "no"


def human_size(size: object) -> str:
    """Bytes with a unit, `-` when unknown."""
    if not isinstance(size, int):
        return "-"
    amount, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"


def human_age(seconds: float | None) -> str:
    """Seconds, minutes, hours or days, `-` when unknown."""
    if seconds is None:
        return "-"
    for limit, divisor, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{max(seconds, 0) / divisor:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"
