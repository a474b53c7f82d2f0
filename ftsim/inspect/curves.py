"""A picture of everything a run has logged, one panel per kind of figure; what an emulator kept, as event files."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

NOT_DRAWN = frozenset({"step", "epoch", "data_consumed", "tokens"})
HELD_OUT = "eval_"
_COLUMNS = 3


def read(path: Path) -> list[dict[str, Any]]:
    """The entries of a metrics.jsonl; a line torn by a crash is passed over."""
    entries = []
    for line in path.read_text("utf-8").splitlines():
        with suppress(ValueError):
            entries.append(json.loads(line))
    return entries


def panels(entries: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, dict[str, list[tuple[int, float]]]]]:
    """Per figure, in the order of first sight: its curves over steps, held-out values beside the training ones."""
    found: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for entry in entries:
        for name, value in entry.items():
            if name in NOT_DRAWN or isinstance(value, bool) or not isinstance(value, int | float):
                continue
            figure, label = (
                (name.removeprefix(HELD_OUT), "held out") if name.startswith(HELD_OUT) else (name, "training")
            )
            found.setdefault(figure, {}).setdefault(label, []).append((entry["step"], value))
    yield from found.items()


def draw(entries: Sequence[Mapping[str, Any]], path: Path, title: str) -> Path:
    """Draw all panels into a PNG; raises `ValueError` when nothing is logged."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = list(panels(entries))
    if not drawn:
        raise ValueError("nothing is logged yet, so there is nothing to draw")
    columns = min(_COLUMNS, len(drawn))
    rows = -(-len(drawn) // columns)
    figure = Figure(figsize=(4 * columns, 2.8 * rows + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    for place, (name, curves) in enumerate(drawn, start=1):
        axes = figure.add_subplot(rows, columns, place)
        for label in sorted(curves, reverse=True):  # training first
            few = len(curves[label]) < 40
            axes.plot(*zip(*curves[label], strict=True), label=label, marker="o" if few else None, markersize=3)
        axes.set(xlabel="step", title=name)
        if len(curves) > 1:
            axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path


Line = tuple[str, str]
"""What a line is of (`session 2`, `program`), and the figure."""


def lines(told: Mapping[str, Any]) -> dict[Line, list[tuple[int, float]]]:
    """The curves that `GET /_ftsim/curves` told, each as (step, value), session by session."""
    found: dict[Line, list[tuple[int, float]]] = {}
    for number, segment in enumerate(told["segments"], 1):
        for name, column in segment["metrics"].items():
            points = [(at, value) for at, value in zip(segment["steps"], column, strict=False) if value is not None]
            if points:
                found[f"session {number}", name] = points
    for name, one in told["told"].items():
        found["program", name] = [*zip(one["steps"], one["values"], strict=True)]
    return found


class Writer(Protocol):
    """A log of figures that somebody else's tool opens."""

    def add(self, step: int, figures: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


def write_logs(
    found: Mapping[Line, Sequence[tuple[int, float]]], folder: Path, opened: Callable[[Path], Writer]
) -> list[Path]:
    """Write curves as logs, one for each session and one for what the program told; returns their folders.

    `opened` begins a log in a folder.
    """
    written = []
    for of in dict.fromkeys(of for of, _ in found):
        written.append(folder / of.replace(" ", "-"))
        writer = opened(written[-1])
        for (whose, name), points in found.items():
            if whose == of:
                for step, value in points:
                    writer.add(step, {name: value})
        writer.close()
    return written
