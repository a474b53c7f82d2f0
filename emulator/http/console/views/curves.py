"""The curves of a run: a figure per metric, a line per session of it or for what the program told, thinned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from emulator.http.console.views.lists import figure
from emulator.state.curves import Segment, thinned

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
    "advantage": "of the positions that have one",
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


def figures(found: Sequence[Segment], told: Mapping[str, Mapping[int, float]] = MappingProxyType({})) -> list[Figure]:
    """A figure per metric, those that everybody looks for first; what only the program knows stands by itself."""
    names = dict.fromkeys(name for segment in found for name in segment.columns)
    measured = {name: made for name in names if (made := _measured(name, found)) is not None}
    said = {f"told/{name}": _told(name, points) for name, points in told.items() if points}
    first = [f"told/{name}" for name in _FIRST if f"told/{name}" in said and name not in measured]
    ordered = [*(name for name in _FIRST if name in measured), *first]
    rest = [*(name for name in measured if name not in ordered), *(name for name in said if name not in ordered)]
    return [(measured | said)[name] for name in (*ordered, *rest)]


def _measured(name: str, found: Sequence[Segment]) -> Figure | None:
    lines = []
    for number, segment in enumerate(found, 1):
        values = segment.columns.get(name, [])
        points = [(step, value) for step, value in zip(segment.steps, values, strict=False) if value is not None]
        if points:
            lines.append(Line(f"session {number}", thinned(points, MOST)))
    return _figure(name, lines, _NOTES.get(name, "")) if lines else None


def _told(name: str, points: Mapping[int, float]) -> Figure:
    shown = _figure(name, [Line("program", thinned([*points.items()], MOST))], "told by the program")
    return replace(shown, key=f"told/{name}")


def _figure(name: str, lines: list[Line], note: str) -> Figure:
    everything = [value for line in lines for _, value in line.points]
    return Figure(
        name,
        _TITLES.get(name, name.replace("_", " ").capitalize()),
        note,
        lines,
        paths(lines),
        figure(lines[-1].points[-1][1]),
        figure(min(everything)),
        figure(max(everything)),
    )


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
