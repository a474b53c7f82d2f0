"""A picture of curves as SVG, which every browser shows; a drawing library takes longer to import than a short run."""

import math
import sys
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

Points = Sequence[tuple[float, float]]
"""(step, value)"""
WIDTH, HEIGHT = 840, 480
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 820, 50, 420
_COLOURS = ("#1f77b4", "#d9630b", "#2a7f3f", "#8e4fb8")
_TICKS = 6
_FEW = 40
"""Fewer points than these are marked one by one."""
_STYLE = (
    "text{font:14px sans-serif;fill:#222}.title{font-size:17px}.axis{stroke:#444;fill:none}.grid{stroke:#e4e4e4}"
    ".curve{fill:none;stroke-width:1.8}"
)


def svg(curves: Mapping[str, Points], title: str, xlabel: str, ylabel: str) -> str:
    """The text of an SVG file of `curves`, by legend; values that are no finite numbers are left out."""
    finite = {name: [point for point in points if all(map(math.isfinite, point))] for name, points in curves.items()}
    drawn = {name: points for name, points in finite.items() if points}
    every = [point for points in drawn.values() for point in points] or [(0.0, 0.0)]
    across = _Scale([x for x, _ in every], _LEFT, _RIGHT, whole=True)
    up = _Scale([y for _, y in every], _BOTTOM, _TOP)
    parts = [_text((_LEFT + _RIGHT) / 2, 28, title, "middle", "title"), *_axes(across, up, xlabel, ylabel)]
    for number, (name, points) in enumerate(drawn.items()):
        colour, y = _COLOURS[number % len(_COLOURS)], _TOP + 18 * (number + 1)
        places = [(f"{across(x):.1f}", f"{up(value):.1f}") for x, value in points]
        joined = " ".join(map(",".join, places))
        parts.append(f'<polyline class="curve" stroke="{colour}" points="{joined}"/>')
        if len(points) < _FEW:
            parts += [f'<circle cx="{x}" cy="{at}" r="3" fill="{colour}"/>' for x, at in places]
        parts.append(f'<line class="curve" stroke="{colour}" x1="{_RIGHT - 26}" x2="{_RIGHT - 6}" y1="{y}" y2="{y}"/>')
        parts.append(_text(_RIGHT - 32, y + 5, name, "end"))
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    begun = f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{_STYLE}</style>'
    return "\n".join([begun, f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>', *parts, "</svg>", ""])


def ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Round numbers, about six, that cover `low` to `high`; at least two. `whole` takes no fractions."""
    if high - low < sys.float_info.min:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * (1 - 1e-9))
    if whole:
        step = max(1.0, math.ceil(step))
    first = math.floor(low / step + 1e-9)
    count = max(1, math.ceil(high / step - 1e-9) - first)
    return [step * (first + number) for number in range(count + 1)]


class _Scale:
    """Maps values to places in the picture."""

    def __init__(self, values: Sequence[float], start: float, end: float, *, whole: bool = False) -> None:
        self.ticks = ticks(min(values), max(values), whole=whole)
        self._low, self._reach = self.ticks[0], self.ticks[-1] - self.ticks[0]
        self._start, self._length = start, end - start

    def __call__(self, value: float) -> float:
        return self._start + self._length * (value - self._low) / self._reach


def _axes(across: _Scale, up: _Scale, xlabel: str, ylabel: str) -> list[str]:
    middle = (_TOP + _BOTTOM) / 2
    parts = []
    for value in across.ticks:
        x = f"{across(value):.1f}"
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{_TOP}" y2="{_BOTTOM}"/>')
        parts.append(_text(across(value), _BOTTOM + 20, f"{value:g}", "middle"))
    for value in up.ticks:
        y = f"{up(value):.1f}"
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(_text(_LEFT - 8, up(value) + 5, f"{value:.6g}", "end"))
    parts.append(f'<path class="axis" d="M{_LEFT} {_TOP}V{_BOTTOM}H{_RIGHT}"/>')
    parts.append(_text((_LEFT + _RIGHT) / 2, HEIGHT - 16, xlabel, "middle"))
    turned = _text(20, middle, ylabel, "middle")
    return [*parts, turned.replace("<text ", f'<text transform="rotate(-90 20 {middle:g})" ', 1)]


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> str:
    of = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{of}>{escape(text)}</text>'
