"""The wish that a process stops, which a signal may say at any moment."""

import contextlib
import math
import queue
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_LOOK_S = 0.5
"""Seconds after which a wait looks up: a signal between Python's last look and the system's wait is not seen before."""


class Stop:
    """An event for one waiter, as `threading.Event`, that a signal handler may set.

    A handler runs in the main thread, between two of its instructions. Where these are those of `Event.wait` it holds
    the lock that `Event.set` waits for, and the process hangs for good; `put` of a SimpleQueue may interrupt its `get`.
    """

    def __init__(self) -> None:
        self._set = False
        self._told: queue.SimpleQueue[None] = queue.SimpleQueue()

    def set(self) -> None:
        """Say it; once is enough."""
        self._set = True
        self._told.put(None)

    def is_set(self) -> bool:
        """Tell whether it was said."""
        return self._set

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is said, or for so many seconds; returns whether it was."""
        until = math.inf if timeout is None else time.monotonic() + timeout
        while not self._set and (left := until - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                self._told.get(timeout=min(left, _LOOK_S))
        return self._set


@contextlib.contextmanager
def by_signals(stop: Stop) -> Iterator[None]:
    """Ctrl-C and SIGTERM set `stop`; a second one is Python's own. Only the main thread can listen."""

    def leave(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler)
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, leave) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
