"""The only source of time: microseconds since the epoch, never repeated, never backwards, advanced by tests."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache

SECOND = 1_000_000
FURTHEST = 250_246_627_200 * SECOND
"""The year 9900: no stamp can be written after 9999, and some lie ahead of the present."""


class Clock:
    """Wall time plus an offset. `now()` is strictly increasing, so two rows never share a createTime (WIRE 5.4)."""

    def __init__(self, wall_ns: Callable[[], int] = time.time_ns) -> None:
        self._wall_ns = wall_ns
        self._offset = 0
        self._last = 0
        self._lock = threading.Lock()

    def now(self) -> int:
        """Microseconds since the epoch; a wall clock that jumps back only slows this one down."""
        with self._lock:
            self._last = max(self._last + 1, self._wall_ns() // 1000 + self._offset)
            return self._last

    def advance(self, seconds: float) -> None:
        """Move the emulator's time forward; raises ValueError for a negative amount, or a leap beyond the year 9900."""
        if not seconds >= 0:
            raise ValueError(f"the clock only moves forward, not by {seconds}")
        with self._lock:
            if seconds * SECOND > FURTHEST - self._wall_ns() // 1000 - self._offset:
                raise ValueError(f"the clock cannot show what is {seconds} seconds ahead: it ends in the year 9900")
            self._offset += int(seconds * SECOND)

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

    def start_after(self, moment: int) -> None:
        """Continue a saved world: time goes on from `moment` where the wall clock is not that far."""
        with self._lock:
            self._last = max(self._last, moment)
            self._offset = max(self._offset, moment - self._wall_ns() // 1000)

    def start_anew(self) -> None:
        """Show the present again, for a world that has been emptied: what was stamped before may lie ahead of it."""
        with self._lock:
            self._last = self._offset = 0

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
