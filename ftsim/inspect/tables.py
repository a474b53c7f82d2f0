"""Checkpoint rows as plain data and as a table in a terminal; sizes and ages with their units."""

from collections.abc import Collection, Sequence
from typing import Any

from ftsim.inspect.listing import ListedRow

_SECOND = 1_000_000_000


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


def columns(*headings: str, numbers: Collection[str] = ()) -> Any:
    """An empty rich table as every command prints one; columns named in `numbers` are set to the right."""
    from rich.table import Table

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        drawn.add_column(heading, no_wrap=True, justify="right" if heading in numbers else "left")
    return drawn


def table(described: Sequence[dict[str, Any]]) -> Any:
    """A rich table of rows as `describe` makes them."""
    numbers = ("size", "step", "age")
    drawn = columns("checkpoint", "kind", "resumable", "promotable", *numbers, numbers=numbers)
    drawn.add_column("delta of")  # may be long: it is wrapped
    for row in described:
        drawn.add_row(
            row["id"],
            row["kind"],
            yes_no(row["resumable"]),
            yes_no(row["promotable"]),
            human_size(row["size"]),
            "-" if row["step"] is None else str(row["step"]),
            human_age(row["age_s"]),
            row["parent"] or "",
        )
    return drawn


def lines(drawn: Any) -> list[str]:
    """A rich table as lines as long as what stands in them, with no blanks at their ends: for a file or a log."""
    from rich.console import Console

    console = Console(highlight=False, width=10_000)
    with console.capture() as caught:
        console.print(drawn)
    return [line.rstrip() for line in caught.get().splitlines()]


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
