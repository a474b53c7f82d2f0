"""Holds what several pages share: pages of long lists, ages, sizes, tones of a state."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from emulator.core.clock import SECOND

T = TypeVar("T")
Tone = Literal["good", "busy", "bad", "idle"]
SIZE = 50
"""Lines of a page."""
_TONES: dict[str, Tone] = {
    "RUNNING": "good",
    "ACTIVE": "good",
    "READY": "good",
    "COMPLETED": "good",
    "CREATING": "busy",
    "PENDING": "busy",
    "UPDATING": "busy",
    "UPLOADING": "busy",
    "CANCELLING": "busy",
    "DELETING": "busy",
    "FAILED": "bad",
}
_STEPS = ((60, "s"), (60, "min"), (24, "h"), (10_000_000, "d"))


@dataclass(frozen=True)
class Slice(Generic[T]):
    """One page of a list; `number` counts from 1."""

    lines: Sequence[T]
    number: int
    pages: int
    total: int


def pages(total: int, asked: str, size: int = SIZE) -> tuple[int, int, slice]:
    """The number of a page that was asked for in a query, how many there are, and which lines it has."""
    count = max(1, -(-total // size))
    number = min(count, max(1, int(asked))) if asked.isascii() and asked.isdigit() and len(asked) < 10 else 1
    return number, count, slice((number - 1) * size, number * size)


def short_state(state: str) -> str:
    """`RUNNING` for JOB_STATE_RUNNING and the like."""
    return state.rpartition("STATE_")[2] or "UNKNOWN"


def tone(state: str) -> Tone:
    return _TONES.get(short_state(state), "idle")


def age(moment: int, now: int) -> str:
    """`12 s`, `3 min`, `5 h`, `2 d`, of the emulator's time."""
    passed = max(0, now - moment) // SECOND
    for most, unit in _STEPS:
        if passed < most or unit == "d":
            return f"{passed} {unit}"
        passed //= most
    raise AssertionError


def size(count: int) -> str:
    """`12 B`, `3.4 kB`, `5.6 MB`."""
    if count < 1000:
        return f"{count} B"
    number, units = float(count), ["kB", "MB", "GB", "TB"]
    for unit in units:
        number /= 1000
        if number < 1000 or unit == "TB":
            break
    return f"{number:.1f} {unit}"


def figure(value: float | None) -> str:
    """A measured number as short as it can be read."""
    if value is None:
        return "–"
    return f"{value:.4g}"
