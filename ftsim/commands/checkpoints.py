"""`ftsim checkpoints`."""

import json
import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from ftsim.commands.console import ApiKey, AsJson, StateDir, Url, human_age, human_size, yes_no
from ftsim.listing import ListedRow, oldest_first

_SECOND = 1_000_000_000


def checkpoints(
    job: Annotated[str, typer.Argument(help="Trainer job or training session: its id or its full name.")],
    as_json: AsJson = False,
    url: Url = None,
    api_key: ApiKey = None,
    state_dir: StateDir = None,
) -> None:
    """List the checkpoints of a job."""
    from ftsim.commands.service import connect

    with connect(url, api_key, state_dir) as service:
        rows, now = service.rows(job)
    described = [describe(row, time.time() if now is None else now) for row in oldest_first(rows)]
    if as_json:
        print(json.dumps({"job": job, "checkpoints": described}, indent=1))
    elif described:
        show(described)
    else:
        print(f"{job} has no checkpoints")


def describe(row: ListedRow, now: float) -> dict[str, Any]:
    """A row as plain data: size in bytes, age in seconds; None where nobody knows."""
    return {
        "id": row.id,
        "kind": row.short_type,
        "resumable": row.resumable,
        "promotable": row.promotable,
        "size": row.facts.get("size"),
        "parent": row.facts.get("previous_snapshot"),
        "step": row.step,
        "created": row.created_text or None,
        "age_s": None if row.created is None else round(now - row.created / _SECOND, 3),
    }


def show(described: Sequence[dict[str, Any]]) -> None:
    """Print rows as a table, as wide as its ids need: those of a session's rows are long, and wanted whole."""
    from rich.console import Console

    drawn, console = table(described), Console()
    needed = console.measure(drawn, options=console.options.update(max_width=1000)).maximum
    Console(width=max(console.width, needed)).print(drawn)


def table(described: Sequence[dict[str, Any]]) -> Any:
    """A rich table of rows as `describe` makes them."""
    from rich.table import Table

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("checkpoint", "kind", "resumable", "promotable"):
        drawn.add_column(heading, no_wrap=True)
    for heading in ("size", "step", "age"):
        drawn.add_column(heading, justify="right", no_wrap=True)
    drawn.add_column("delta of")
    for row in described:
        drawn.add_row(
            row["id"], row["kind"], yes_no(row["resumable"]), yes_no(row["promotable"]), human_size(row["size"]),
            "-" if row["step"] is None else str(row["step"]), human_age(row["age_s"]), row["parent"] or "",
        )  # fmt: skip
    return drawn
