"""`ftsim bench`."""

from typing import Annotated

import typer

from ftsim.cli.console import AsJson


def bench(
    as_json: AsJson = False,
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this measurement; may be repeated.")
    ] = None,
    listing: Annotated[bool, typer.Option("--list", help="Name the measurements and leave.")] = False,
) -> None:
    """Measure what the emulator costs.

    Ratios to the same work done without it, all in one run."""
    from ftsim.tools.bench import show

    raise SystemExit(show(only or [], as_json=as_json, listing=listing))
