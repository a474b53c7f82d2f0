"""The only source of time: microseconds since the epoch, never repeated, never backwards, advanced by tests."""

import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

SECOND = 1_000_000
FURTHEST = 250_246_627_200 * SECOND
"""The year 9900: no stamp can be written after 9999, and some lie ahead of the present."""


@dataclass
class _Stretch:
    """Begins at the stamp `stamp`, where the timer of durations shows `ticks`; it then runs for `runs` microseconds."""

    stamp: int
    ticks: int
    runs: int = 0

    def at(self, stamp: int) -> int:
        """Return the time that the timer shows at a later stamp."""
        return self.ticks + min(max(0, stamp - self.stamp), self.runs)


class Clock:
    """Wall time plus an offset. `now()` is strictly increasing, so two rows never share a createTime (WIRE 5.4).

    Stamps are `now()`. Durations are measured on `ticks()`, which is the same, unless the clock is `held`: then they
    last as long as `advance` says, however long things really take. So nothing becomes late, visible or idle because a
    machine is slow. Stamps go on with the wall all the same, since clients compare them with their own time
    (FAILURES A4). And real time counts while somebody waits for a moment (`reached`): a client that polls until
    something has happened sees it happen when it would have.
    """

    def __init__(self, wall_ns: Callable[[], int] | None = None, *, held: bool = False) -> None:
        self._wall_ns = wall_ns or (lambda: time.time_ns())  # looked up at each call: tests and shims replace it
        self._offset = 0
        self._last = 0
        self._lock = threading.Lock()
        self.held = held
        self._stretches: list[_Stretch] = []
        self._begin_stretches()

    def now(self) -> int:
        """Microseconds since the epoch. A wall clock that is set back does not stop this one: it goes on from here."""
        with self._lock:
            return self._now()

    def _now(self) -> int:
        wall = self._wall_ns() // 1000 + self._offset
        if (behind := self._last - wall) > SECOND:
            self._offset, wall = self._offset + behind, self._last
        self._last = max(self._last + 1, wall)
        return self._last

    def _begin_stretches(self) -> None:
        """Let the timer of a held clock stand where the stamps are; call it with the lock, or alone."""
        if self.held:
            now = self._now()
            self._stretches = [_Stretch(now, now)]

    def stamp_and_lag(self) -> tuple[int, int]:
        """A stamp, and by how many microseconds durations lag behind stamps."""
        with self._lock:
            now = self._now()
            return now, now - self._stretches[-1].at(now) if self.held else 0

    def ticks(self) -> int:
        """The moment by which durations are measured, in microseconds: to be compared with others of its kind alone."""
        with self._lock:
            now = self._now()
            return self._stretches[-1].at(now) if self.held else now

    def since(self, stamp: int) -> int:
        """Microseconds that have passed for durations since a stamp."""
        with self._lock:
            now = self._now()
            if not self.held:
                return now - stamp
            index = bisect_right(self._stretches, stamp, key=lambda one: one.stamp) - 1
            begun = self._stretches[index].at(stamp) if index >= 0 else stamp
            return self._stretches[-1].at(now) - begun

    def reached(self, due: int) -> bool:
        """Say whether `ticks()` is `due` by now, for somebody who waits for it: until then real time counts."""
        with self._lock:
            now = self._now()
            if not self.held:
                return now >= due
            last = self._stretches[-1]
            ticks = last.at(now)
            if ticks < due:
                if ticks - last.ticks < last.runs:
                    last.runs = max(last.runs, due - last.ticks)
                else:
                    self._stretches.append(_Stretch(now, ticks, due - ticks))
            return ticks >= due

    def stand_at(self, ticks: int) -> None:
        """Let the timer of a held clock show `ticks` from now on; it never goes back."""
        with self._lock:
            now = self._now()
            self._stretches.append(_Stretch(now, max(ticks, self._stretches[-1].at(now))))

    def has_lasted(self, stamp: int, seconds: float) -> bool:
        """Say whether so many seconds have passed since a stamp, for somebody who waits for it."""
        lasting = int(seconds * SECOND)
        return self.reached(self.ticks() - self.since(stamp) + lasting)

    def advance(self, seconds: float) -> None:
        """Move the emulator's time forward; raises ValueError for a negative amount, or a leap beyond the year 9900."""
        if not seconds >= 0:
            raise ValueError(f"the clock only moves forward, not by {seconds}")
        with self._lock:
            if seconds * SECOND > FURTHEST - self._wall_ns() // 1000 - self._offset:
                raise ValueError(f"the clock cannot show what is {seconds} seconds ahead: it ends in the year 9900")
            leap = int(seconds * SECOND)
            before = self._stretches[-1].at(self._now()) if self.held else 0
            self._offset += leap
            if self.held:
                last = self._stretches[-1]
                left = max(0, last.runs - (before - last.ticks) - leap)
                self._stretches.append(_Stretch(self._now(), before + leap, left))

    @contextmanager
    def standing(self) -> Iterator[None]:
        """Inside, time passes by `advance` alone, however long things take; afterwards it has passed all the same."""
        with self._lock:
            wall_ns, stopped = self._wall_ns, self._wall_ns()
            self._wall_ns = lambda: stopped
        try:
            yield
        finally:
            with self._lock:
                self._wall_ns = wall_ns

    def catch_up(self, moment: int) -> None:
        """Be at `moment` at least: a state from another machine, or from a future that a test had moved to."""
        if (behind := moment - self.now()) > 0:
            self.advance((behind + 1) / SECOND)
            with self._lock:
                self._begin_stretches()

    def start_after(self, moment: int) -> None:
        """Continue a saved world: time goes on from `moment` where the wall clock is not that far."""
        with self._lock:
            self._last = max(self._last, moment)
            self._offset = max(self._offset, moment - self._wall_ns() // 1000)
            self._begin_stretches()

    def start_anew(self) -> None:
        """Show the present again, for a world that has been emptied: what was stamped before may lie ahead of it."""
        with self._lock:
            self._last = self._offset = 0
            self._begin_stretches()

    elapsed = staticmethod(time.perf_counter)
    """Seconds of a timer that no test moves, for measured durations only."""


def each_rfc3339(moments: Iterable[int], digits: int = 6) -> list[str]:
    """Write each of these as `rfc3339` does."""
    return [rfc3339(moment, digits) for moment in moments]


def rfc3339(moment: int, digits: int = 6) -> str:
    """`2026-08-01T10:00:00.123456Z` with 0, 3, 6 or 9 fractional digits (WIRE 5.4, FAILURES A1 and A5)."""
    seconds, micros = divmod(moment, SECOND)
    fraction = f"{micros:06d}000"[:digits]
    return f"{_to_second(seconds)}.{fraction}Z" if fraction else f"{_to_second(seconds)}Z"


@lru_cache(maxsize=4096)
def _to_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def parse_rfc3339(text: str) -> int:
    """Microseconds since the epoch of any RFC 3339 stamp with 0 to 9 fractional digits; raises ValueError."""
    head, dot, tail = text.partition(".")
    zone = "Z" if not dot else tail.lstrip("0123456789")
    fraction = tail[: len(tail) - len(zone)] if dot else ""
    if dot and (not fraction or len(fraction) > 9):
        raise ValueError(f"not an RFC 3339 time: {text!r}")
    moment = datetime.fromisoformat(head + zone if dot else text)
    if moment.tzinfo is None:
        raise ValueError(f"an RFC 3339 time needs a zone: {text!r}")
    return int(moment.timestamp()) * SECOND + int(fraction.ljust(6, "0")[:6] or 0)
