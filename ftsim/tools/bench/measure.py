"""Results, paired medians, and the register of measurements."""

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftsim.tools.bench.stand import Stand


@dataclass(frozen=True)
class Result:
    """One figure. `target` is a bound: an upper or, where more is better, a lower one; None: nothing to meet."""

    name: str
    value: float
    unit: str
    target: float | None
    more_is_better: bool = False
    parts: dict[str, float] = field(default_factory=dict)
    """The two sides of a ratio: milliseconds, or whatever their names say."""

    @property
    def ok(self) -> bool | None:
        """None without a target."""
        if self.target is None:
            return None
        return self.value >= self.target if self.more_is_better else self.value <= self.target

    def with_requests(self, round_trips: float, emulated: str = "emulated_ms", bare: str = "bare_ms") -> "Result":
        """The same with the bare side asking as much as the other (in ms); the plain ratio stands beside it."""
        ours, theirs = self.parts[emulated], self.parts[bare]
        parts = self.parts | {"round_trips_ms": round_trips, "without_requests_x": self.value}
        return replace(self, value=ours / (theirs + round_trips), parts=parts)

    def but(self, **parts: float) -> "Result":
        """The same figure with more `parts`."""
        return replace(self, parts=self.parts | parts)


Measurement = Callable[["Stand"], Iterable[Result]]


def milliseconds(work: Callable[[], object]) -> float:
    """The time that one call takes, in milliseconds."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e3


def paired(
    one: Callable[[], object], other: Callable[[], object], *, rounds: int, warm_up: int = 3
) -> tuple[float, float]:
    """Median milliseconds of two pieces of work that take turns."""
    for _ in range(warm_up):
        one()
        other()
    times = [(milliseconds(one), milliseconds(other)) for _ in range(rounds)]
    return statistics.median(a for a, _ in times), statistics.median(b for _, b in times)


def round_trips(refused: Callable[[], object], rounds: int = 9) -> float:
    """Median milliseconds of a call that the emulator refuses before it does anything.

    What requests, polling and the SDK around them take is left: no emulator could answer the call sooner.
    """

    def attempt() -> None:
        try:
            refused()
        except Exception:  # the SDK raises several kinds
            return
        raise RuntimeError("a call that was to be refused was carried out")

    attempt()
    return statistics.median(milliseconds(attempt) for _ in range(rounds))


def ratio(
    name: str, emulated: Callable[[], object], bare: Callable[[], object], target: float | None, *, rounds: int = 15
) -> Result:
    """The ratio of the time of the emulated work to that of the bare."""
    ours, theirs = paired(emulated, bare, rounds=rounds)
    return Result(name, ours / theirs, "x", target, parts={"emulated_ms": ours, "bare_ms": theirs})
