"""Holds what a run's optimizer steps measured: plain columns, so that a long run is little to store."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

TOLD = "told by the program"
"""Stands for the live model in a piece whose figures a program told: no trainer measured them."""


@dataclass
class Curve:
    """Some hundred optimizer steps of one live model, in order.

    `owner` is the full name of the job or session that it trains for, `origin` that of the row that it had loaded
    before ("" for none), `first` whether no other piece holds earlier steps since then. `columns` has a number, or
    None where it was not measured, per step and metric. `created` is when the newest row was saved that is older than
    these steps (0 for none): rows with the same model and a later time were saved among them, or after.
    """

    account: str
    owner: str
    model_id: str
    number: int
    created: int
    origin: str = ""
    first: bool = True
    steps: list[int] = field(default_factory=list)
    columns: dict[str, list[float | None]] = field(default_factory=dict)

    @cached_property
    def name(self) -> str:
        return f"{self.owner}/curves/{self.number:07d}"


@dataclass(frozen=True)
class Segment:
    """All steps of one live model since it was made or had loaded a row: the pieces of its curve together."""

    model_id: str
    origin: str
    created: int
    steps: list[int]
    columns: dict[str, list[float | None]]


def segments(pieces: Iterable[Curve]) -> list[Segment]:
    """Return what an owner's trainer measured: a segment for each model that was made or loaded, oldest first."""
    found: list[Segment] = []
    open_: dict[str, Segment] = {}
    for piece in pieces:
        if piece.model_id == TOLD:
            continue
        known = open_.get(piece.model_id)
        if known is None or piece.first:
            known = Segment(piece.model_id, piece.origin, piece.created, [], {})
            open_[piece.model_id] = known
            found.append(known)
        before = len(known.steps)
        known.steps.extend(piece.steps)
        for name, values in piece.columns.items():
            column = known.columns.setdefault(name, [None] * before)
            column.extend([None] * (before - len(column)))
            column.extend(values)
    return found


def told(pieces: Iterable[Curve]) -> dict[str, dict[int, float]]:
    """Return what the program told: by name, the value of each step; of a step that was told twice the later one."""
    found: dict[str, dict[int, float]] = {}
    for piece in pieces:
        if piece.model_id == TOLD:
            for name, values in piece.columns.items():
                known = found.setdefault(name, {})
                known.update((at, value) for at, value in zip(piece.steps, values, strict=False) if value is not None)
    return {name: dict(sorted(values.items())) for name, values in found.items()}


def thinned(points: list[tuple[int, float]], most: int) -> list[tuple[int, float]]:
    """Every n-th point, so that at most about `most` are left, and the last one."""
    every = -(-len(points) // most)
    if every <= 1:
        return points
    return [*points[:-1:every], points[-1]]
