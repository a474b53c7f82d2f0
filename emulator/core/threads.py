"""Threads in the background that the interpreter waits for at its end.

A daemon thread is ended wherever it next takes the interpreter's lock. Inside a C++ library, such as torch, that ends
the whole process instead: "terminate called without an active exception", status 134. A thread that is no daemon would
be waited for before anybody has told it to stop: functions given to `atexit` are called after that, newest first.
"""

import atexit
import threading
import weakref
from collections.abc import Callable

from emulator.core.clock import Clock
from emulator.core.own_warnings import apart

PATIENCE_S = 20.0
"""How long the end of the interpreter waits for all of them together."""
_ending: "weakref.WeakSet[threading.Thread]" = weakref.WeakSet()


def start(target: Callable[[], object], name: str) -> None:
    """Start a daemon thread with an end in sight, which the interpreter waits for.

    Where none can be started the work is done here: from Python 3.12 on that is so once the interpreter ends.
    """
    work = apart(target)
    thread = threading.Thread(target=work, name=name, daemon=True)
    outlast(thread)
    try:
        thread.start()
    except RuntimeError:
        work()


def outlast(thread: threading.Thread) -> None:
    """Let the interpreter wait for a thread that was told to stop, and finishes what it is at."""
    _ending.add(thread)


@atexit.register
def settle() -> None:
    """Wait for the threads that still run."""
    until = Clock.elapsed() + PATIENCE_S
    for thread in list(_ending):
        if thread.is_alive():
            thread.join(max(0.0, until - Clock.elapsed()))
