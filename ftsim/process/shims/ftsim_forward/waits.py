"""Threads that wait, and whoever wakes them: the one place that knows which threads of this process could run.

A thread that sleeps, or waits for another thread, is *parked*: it holds a `Waiter` in `parked` and waits on a lock of
its own. Whoever wakes it takes it out first, so that a thread counts as running from the moment in which it may run,
not from the moment in which the system lets it. `runs` has a new value before and after each of these moments: two
looks that find every thread parked and the same value have seen them parked all the time between.
"""

from __future__ import annotations

import _thread
import contextlib
import itertools
from collections import deque
from collections.abc import Callable
from typing import Any

from ftsim_forward import real
from ftsim_forward.table import NEVER, Table

LONGEST_S = 1e9
SLICE_S = 0.002
"""Seconds between two looks of a wait that nobody can wake, such as for a file to be readable."""


class Waiter:
    """A thread that is parked until `wake`, or until the shared clock shows `deadline`."""

    __slots__ = ("_gate", "deadline", "native", "ready", "since", "thread", "woken")

    def __init__(self, deadline: int, ready: Callable[[], bool] | None = None) -> None:
        self.deadline = deadline
        self.ready = ready
        """Says that what is waited for is there, though the thread has not noticed yet."""
        self.woken = False
        self.thread, self.native = _thread.get_ident(), _thread.get_native_id()
        self.since = process.now()
        self._gate = real.allocate_lock()
        self._gate.acquire()

    def wake(self) -> None:
        """Let the thread run; from any thread, as often as one likes."""
        if not self.woken:
            self.woken = True
            self.leave()
            with contextlib.suppress(RuntimeError):  # another thread was faster
                self._gate.release()

    def park(self) -> None:
        """Wait until woken. A signal's handler runs meanwhile, and what it raises is raised."""
        try:
            process.park(self)
            if not self.woken:
                self._gate.acquire()
        finally:
            self.leave()

    def leave(self) -> None:
        """Count as running again, whoever has or has not woken it."""
        process.ran()
        parked.pop(self.thread, None)
        process.ran()


parked: dict[int, Waiter] = {}
"""The threads of this process that are parked, by their numbers."""


class Process:
    """This process, as far as the shared clock goes."""

    def __init__(self) -> None:
        self.table: Table = None
        self.runs = 0
        """A number that is another one whenever a thread has begun to run."""
        self._numbers = itertools.count(1)
        self.starting: set[object] = set()
        """Threads that have been started and do not run yet."""
        self.ending = False
        """True once the interpreter ends: what is left to do is not waited for by anybody else."""
        self.before: frozenset[int] = frozenset()
        """Threads that were there before the clock was shared: they wait for what nobody can see."""
        self.gate = real.allocate_lock()
        self.wakes_at = 0
        """The moment at which the pacer looks by itself; it must be told of earlier deadlines."""
        self.pacing = False
        self.start_pacer: Callable[[], None] = lambda: None

    def now(self) -> int:
        """Nanoseconds of the shared monotonic clock."""
        return int(real.monotonic_ns() + self.table.ahead)

    def ran(self) -> None:
        """Note that a thread begins to run; no number is given twice, whatever the order in which threads get here."""
        self.runs = next(self._numbers)

    def park(self, waiter: Waiter) -> None:
        """Count a thread as parked, and let the pacer look when it may have been the last."""
        parked[waiter.thread] = waiter
        if waiter.woken:
            return
        if not self.pacing:
            self.start_pacer()
        if waiter.deadline < self.wakes_at or len(parked) >= _thread._count() - len(self.before):
            self.kick()

    def kick(self) -> None:
        """Have the pacer look at once."""
        with contextlib.suppress(RuntimeError):  # it has been told already
            self.gate.release()


process = Process()


def deadline_after(seconds: float | None) -> int:
    """Return the moment at which a wait of so many seconds ends; NEVER for None, and for what no clock will show."""
    if seconds is None or seconds > LONGEST_S:
        return int(NEVER)
    return process.now() + int(seconds * 1e9)


def sleep(seconds: float) -> None:
    """Sleep as `time.sleep` does, on the shared clock."""
    try:
        lasts = 0.0 if isinstance(seconds, str | bytes | bytearray) else float(seconds)
    except (TypeError, ValueError, OverflowError):
        lasts = 0.0
    if not 0 < lasts < LONGEST_S:
        return real.sleep(seconds)  # it knows what to refuse
    waiter = Waiter(deadline_after(lasts))
    while process.now() < waiter.deadline:
        waiter.park()
        waiter = Waiter(waiter.deadline)
    return None


def wait_for(take: Callable[[], Any], waiters: deque[Waiter], deadline: int) -> bool:
    """Wait until `take` is true, among others that do: `pass_on` wakes them, first come, first served."""
    while True:
        waiter = Waiter(deadline)
        waiters.append(waiter)
        try:
            taken = take()  # it may have become free in between
            if not taken:
                waiter.park()
                taken = take()
        except BaseException:
            _leave(waiters, waiter)
            raise
        late = not taken and process.now() >= deadline
        if taken or late:
            _leave(waiters, waiter, its_turn=late)
            return bool(taken)
        with contextlib.suppress(ValueError):  # woken in vain: it takes its place at the end
            waiters.remove(waiter)


def _leave(waiters: deque[Waiter], waiter: Waiter, *, its_turn: bool = True) -> None:
    """Take a waiter out; where it was its turn and it takes nothing, it is the next one's."""
    try:
        waiters.remove(waiter)
    except ValueError:
        if its_turn:
            pass_on(waiters)


def pass_on(waiters: deque[Waiter]) -> None:
    """Wake the one that has waited longest."""
    with contextlib.suppress(IndexError):
        waiters.popleft().wake()


def poll(
    take: Callable[[], Any],
    peek: Callable[[], bool],
    deadline: int,
    pause: Callable[[float], object] = real.sleep,
) -> Any:
    """Wait until `take` gives something true, and return that; whatever it gives when the deadline has passed.

    `peek` says, to whatever thread, that `take` would give something, and takes nothing away. `pause` waits for so many
    seconds, or less when there is something.
    """
    while True:
        if (found := take()) or process.now() >= deadline:
            return found
        waiter = Waiter(deadline, peek)
        process.park(waiter)
        try:
            while not waiter.woken and not peek():
                pause(SLICE_S)
        finally:
            waiter.leave()
