"""The curves of a run: one figure per metric, one line per session of it, thinned to what a screen can show."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from emulator.http.console.views.lists import figure
from emulator.state.curves import Curve

MOST = 600
"""Points of a line that are sent; of a longer one every n-th, and the last."""
DRAWN = 160
"""Points of a line that is drawn without JavaScript."""
WIDTH, HEIGHT = 320, 120
_TITLES = {
    "loss": "Loss",
    "kl": "KL to the sampled policy",
    "advantage": "Mean advantage",
    "reward": "Reward",
    "lr": "Learning rate",
    "grad_norm": "Gradient norm",
    "num_loss_tokens": "Tokens with a gradient",
    "num_sequences": "Sequences",
}
_NOTES = {
    "loss": "per token with a gradient",
    "kl": "mean of log p(sampled) - log p(trained)",
    "advantage": "the service is told no reward, but this",
    "reward": "told by the program",
}
_FIRST = (*_TITLES,)


@dataclass(frozen=True)
class Line:
    """A metric over the steps of one session; `points` are (step, value)."""

    label: str
    points: list[tuple[int, float]]


@dataclass(frozen=True)
class Figure:
    """One metric. `paths` are the lines as the points of an SVG polyline."""

    key: str
    title: str
    note: str
    lines: list[Line]
    paths: list[str] = field(default_factory=list)
    last: str = ""
    low: str = ""
    high: str = ""


@dataclass(frozen=True)
class Session:
    """All steps of one live model since it was made or had loaded a row: the pieces of its curve together."""

    model_id: str
    origin: str
    created: int
    steps: list[int]
    columns: dict[str, list[float | None]]


def sessions(pieces: Sequence[Curve]) -> list[Session]:
    """The sessions of an owner, oldest first."""
    found: list[Session] = []
    open_: dict[str, Session] = {}
    for piece in pieces:
        known = open_.get(piece.model_id)
        if known is None or piece.first:
            known = Session(piece.model_id, piece.origin, piece.created, [], {})
            open_[piece.model_id] = known
            found.append(known)
        before = len(known.steps)
        known.steps.extend(piece.steps)
        for name, values in piece.columns.items():
            column = known.columns.setdefault(name, [None] * before)
            column.extend([None] * (before - len(column)))
            column.extend(values)
    return found


def figures(found: Sequence[Session]) -> list[Figure]:
    """A figure per metric, those that everybody looks for first."""
    names = dict.fromkeys(name for session in found for name in session.columns)
    ordered = [name for name in _FIRST if name in names] + [name for name in names if name not in _FIRST]
    return [made for name in ordered if (made := _figure(name, found)) is not None]


def _figure(name: str, found: Sequence[Session]) -> Figure | None:
    lines = []
    for number, session in enumerate(found, 1):
        values = session.columns.get(name, [])
        points = [(step, value) for step, value in zip(session.steps, values, strict=False) if value is not None]
        if points:
            lines.append(Line(f"session {number}", thinned(points, MOST)))
    if not lines:
        return None
    everything = [value for line in lines for _, value in line.points]
    title = _TITLES.get(name, name.replace("_", " ").capitalize())
    return Figure(
        name,
        title,
        _NOTES.get(name, ""),
        lines,
        paths(lines),
        figure(lines[-1].points[-1][1]),
        figure(min(everything)),
        figure(max(everything)),
    )


def thinned(points: list[tuple[int, float]], most: int) -> list[tuple[int, float]]:
    """Every n-th point, so that at most about `most` are left, and the last one."""
    every = -(-len(points) // most)
    if every <= 1:
        return points
    return [*points[:-1:every], points[-1]]


def paths(lines: Sequence[Line], width: int = WIDTH, height: int = HEIGHT, drawn: int = DRAWN) -> list[str]:
    """Lines as the `points` of polylines in a box of this size."""
    steps = [step for line in lines for step, _ in line.points]
    values = [value for line in lines for _, value in line.points]
    if not steps:
        return []
    left, right, low, high = min(steps), max(steps), min(values), max(values)
    wide, tall = max(1, right - left), (high - low) or 1.0
    return [
        " ".join(
            f"{2 + (width - 4) * (step - left) / wide:.1f},{2 + (height - 4) * (high - value) / tall:.1f}"
            for step, value in thinned(line.points, drawn)
        )
        for line in lines
    ]
