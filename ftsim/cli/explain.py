"""`ftsim explain`."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ftsim.cli.console import ApiKey, AsJson, ListingFile, StateDir, Url, fail, talking
from ftsim.inspect.listing import ListedRow, is_cut, parse

if TYPE_CHECKING:
    from ftsim.inspect.explain import Explanation


def explain(
    row: Annotated[
        str,
        typer.Argument(help="Full resource name, JOB:CHECKPOINT, or an id of --job, else of the newest."),
    ],
    job: Annotated[str | None, typer.Option(help="Job or session of the checkpoint.", show_default=False)] = None,
    want: Annotated[
        Literal["promote", "resume"] | None, typer.Option(help="What you wanted of it; both by default.")
    ] = None,
    listing: ListingFile = None,
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
    state_dir: StateDir = None,
) -> None:
    """Say what a checkpoint is, and why.

    How it came to be, across the three layers that have a type; what it can and cannot do; and the call that would
    have done what you wanted."""
    from ftsim.inspect.explain import explain as explained

    owner, checkpoint = split(row, job)
    cut = False
    if listing is not None:
        rows, cut = read_listing(listing)
        rows = of_owner(rows, owner)
    else:
        from ftsim.cli.service import connect
        from ftsim.inspect.owners import find

        with connect(url, api_key, state_dir) as service:
            rows, _ = service.rows(find(service, owner))
    found = explained(choose(rows, checkpoint), rows, want, cut=cut)
    if as_json:
        print(json.dumps(asdict(found) | {"row": _plain(found.row)}, indent=1, default=str))
    else:
        show(found)


def split(row: str, job: str | None) -> tuple[str | None, str]:
    """Owner, None if not given, and checkpoint id of a ROW argument."""
    owner, slash, checkpoint = row.partition("/checkpoints/")
    if slash:
        return owner, checkpoint
    owner, colon, checkpoint = row.partition(":")
    if colon and job is None and not owner.startswith("run-"):  # FAILURES A13: old planes wrote run-...:name
        return owner, checkpoint
    return job, row


def read_listing(path: Path) -> tuple[list[ListedRow], bool]:
    """The rows in a file, and whether later pages are missing; leaves with a message when it holds none."""
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text("utf-8")
        return parse(text), is_cut(text)
    except (OSError, ValueError) as error:
        fail(f"{path}: {error}")


def of_owner(rows: Sequence[ListedRow], owner: str | None) -> list[ListedRow]:
    """The rows of one job; rows that do not say whose they are stay."""
    short = None if owner is None else owner.rsplit("/", 1)[-1]
    return [row for row in rows if short is None or row.owner in ("", short)]


def choose(rows: Sequence[ListedRow], checkpoint: str) -> ListedRow:
    """The row of this id, or the only one saved under this name; leaves with what there is otherwise."""
    found = [row for row in rows if row.id == checkpoint] or [row for row in rows if row.logical == checkpoint]
    if len({row.name or row.id for row in found}) == 1:
        return found[-1]
    if found:
        fail(f"{checkpoint!r} may be any of {', '.join(row.name or row.id for row in found)}: give one in full")
    have = ", ".join(row.id for row in rows[-20:]) or "none"
    fail(f"there is no checkpoint {checkpoint!r}; there are: {have}")


def show(found: "Explanation") -> None:
    """Print an explanation."""
    from rich.markup import escape
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    with talking() as console:
        console.print(f"[bold]{escape(found.row.id)}[/bold]  {found.row.short_type}  {found.row.created_text}\n")
        layers = Table(box=None, pad_edge=False, header_style="bold")
        for heading in ("layer", "its own word", "which means"):
            layers.add_column(heading, no_wrap=heading == "layer")
        for layer in found.layers:
            layers.add_row(layer.layer, escape(layer.value), escape(layer.meaning))
        console.print(layers)
        console.print()
        for ability in found.can:
            console.print(escape(f"it can     {ability}"), soft_wrap=True)
        for ability in found.cannot:
            console.print(escape(f"it cannot  {ability}"))
        for advice in found.advice:
            verb = "promote" if advice.want == "promote" else "resume from"
            console.print(f"\n[bold]to {verb} it{'' if advice.possible else ', save it with'}[/bold]")
            for line in (advice.call, *([f"(in the SDK: {advice.instead})"] if advice.instead else [])):
                _print_whole(console, line)
            if advice.still:
                console.print("what can still be done:")
                for line in advice.still:
                    _print_whole(console, line)
        if found.notes:
            console.print("\n[bold]note[/bold]")
            for note in found.notes:
                console.print(Padding(Text(note), (0, 0, 0, 2)))


def _print_whole(console: Any, line: str) -> None:
    """A command or a call is there to be copied: only the terminal may wrap it."""
    from rich.text import Text

    console.print(Text(f"  {line}"), soft_wrap=True)


def _plain(row: ListedRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "kind": row.short_type,
        "resumable": row.resumable,
        "promotable": row.promotable,
        "step": row.step,
        "logical_name": row.logical,
        "session_suffix": row.suffix,
        "created": row.created_text,
        **row.facts,
    }
