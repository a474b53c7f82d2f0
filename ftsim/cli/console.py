"""Texts that commands share: errors, sizes, ages, common options."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console


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
QuirkOptions = Annotated[
    list[str] | None,
    typer.Option(help="name=value[@selector=id][,times=n]: a failure of production, see docs/quirks.md."),
]
Profile = Annotated[
    str | None,
    typer.Option(help="production-like, april-2026, chaos, or a YAML file: many quirks.", show_default=False),
]
Platform = Annotated[
    str | None,
    typer.Option(
        help="The service as it was on a date: 2026-04, 2026-08, 2026-11; without it as the state folder has it, "
        "else the newest.",
        show_default=False,
    ),
]
ModelFolders = Annotated[list[str] | None, typer.Option(help="NAME=FOLDER: a Hugging Face folder behind a model name.")]
Compute = Annotated[
    list[str] | None,
    typer.Option(
        help="[NAME=]WORDS: how models are computed, all or one: float32 or bfloat16, checkpointing, compile, "
        "batch-variant, async-save.",
        metavar="TEXT",
    ),
]
TrainerWorkers = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Processes of their own that trainers compute in, at most; 0, the default, is the emulator's.",
        show_default=False,
    ),
]
TrainerNproc = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Ranks that a trainer is spread over, as a group that torchrun starts; 1, the default, is one process.",
        show_default=False,
    ),
]
SamplerOption = Annotated[
    Literal["torch", "vllm"] | None,
    typer.Option("--sampler", help="What draws tokens: torch, the default, or vLLM.", show_default=False),
]
CatalogueFiles = Annotated[
    list[Path] | None, typer.Option(help="TOML file that declares more models and training shapes.")
]
JobArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[JOB]",
        help="Job or session: its id or the beginning of it, its display name, a log_path; the newest by default.",
        show_default=False,
    ),
]
ListingFile = Annotated[
    Path | None, typer.Option("--from", help="A saved JSON listing instead of a service; - is stdin.")
]
Light = Annotated[
    bool, typer.Option("--light", help="Compute without a model and without torch: for tests of a client.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


_tracebacks = False
_UNWRAPPED = 10_000


def show_tracebacks(wanted: bool) -> None:
    """Says whether `fail` shows where an error came from (`ftsim --debug`)."""
    global _tracebacks
    _tracebacks = wanted


def fail(message: str, status: int = 1) -> NoReturn:
    """Say on stderr who speaks and what is wrong, and leave."""
    if _tracebacks:
        import traceback

        traceback.print_exc()
    print(f"ftsim: {message.removeprefix('ftsim: ')}", file=sys.stderr)
    raise SystemExit(status)


def model_folders(given: list[str]) -> dict[str, Path]:
    """`NAME=FOLDER` pairs; a name without a slash is a model of the account `fireworks`."""
    folders = {}
    for pair in given:
        name, equals, folder = pair.partition("=")
        if not equals or not name:
            fail(f"--model {pair!r}: write NAME=FOLDER", 2)
        if not (Path(folder) / "config.json").is_file():
            fail(f"--model {pair!r}: {folder} has no config.json, so it is no Hugging Face folder", 2)
        folders[name if "/" in name else f"accounts/fireworks/models/{name}"] = Path(folder)
    return folders


def account_keys(given: list[str]) -> dict[str, str]:
    """The accounts of further keys, by key, of `ACCOUNT=KEY` pairs."""
    keys = {}
    for pair in given:
        account, equals, key = pair.partition("=")
        if not equals or not account or not key:
            fail("--account-key: write ACCOUNT=KEY", 2)
        keys[key] = account
    return keys


def tell(data: Any, as_json: bool, *lines: str) -> None:
    """Print data as JSON, or the lines that say the same."""
    if as_json:
        import json

        print(json.dumps(data, indent=1, default=str))
    else:
        for line in lines:
            print(line)


@contextlib.contextmanager
def talking() -> "Iterator[Console]":
    """A console to print on: a terminal as wide as it is, anything else without wrapping and trailing blanks."""
    from rich.console import Console

    console = Console(highlight=False)
    if console.is_terminal:
        yield console
        return
    console = Console(highlight=False, width=_UNWRAPPED)
    with console.capture() as caught:
        yield console
    for line in caught.get().splitlines():
        print(line.rstrip())


def print_wide(table: Any) -> None:
    """As wide as the names in it need: they are long, and wanted whole."""
    with talking() as console:
        needed = console.measure(table, options=console.options.update(max_width=_UNWRAPPED)).maximum
        console.width = max(console.width, needed)
        console.print(table)
