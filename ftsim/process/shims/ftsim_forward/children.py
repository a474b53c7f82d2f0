"""Child processes: which of them share the clock, and waits for their end, their pipes and their locks."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable
from typing import Any

from ftsim_forward import real
from ftsim_forward.table import HELPER, NEVER, OTHER, PROGRAM, SERVER
from ftsim_forward.waits import deadline_after, poll, process

_HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")
"""Processes of Python's own that only listen to others."""
ROLE = "FTSIM_FAST_FORWARD_ROLE"


def enter() -> None:
    """Take this process's row."""
    starts = "multiprocessing" not in sys.modules  # one that was forked has its parent's command line
    helper = starts and any(name in word for word in getattr(sys, "orig_argv", ()) for name in _HELPERS)
    role = SERVER if os.environ.pop(ROLE, "") == "server" else HELPER if helper else PROGRAM
    process.table.row = process.table.enter(os.getpid(), os.getppid(), role)
    atexit.register(_end)


def _end() -> None:
    """Hold the clock until this process is gone."""
    process.ending = True
    process.table.say(False, NEVER, process.runs, 0)


def _waitpid(pid: int, options: int, /) -> tuple[int, int]:
    """`os.waitpid`, parked while the child runs; once it is reaped, its row is free."""
    if pid > 0 and not options & os.WNOHANG and hasattr(os, "waitid"):
        poll(lambda: _ended(pid), lambda: _ended(pid), deadline_after(None))
    found = real.waitpid(pid, options)
    if found[0] and (os.WIFEXITED(found[1]) or os.WIFSIGNALED(found[1])):
        process.table.leave(found[0])
    return found


def _ended(pid: int) -> bool:
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except OSError:
        return True


def _noted(start: Callable[..., int]) -> Callable[..., int]:
    """Note a child before it can say anything itself."""

    def started(*args: Any, **kwargs: Any) -> int:
        pid = start(*args, **kwargs)
        process.table.enter(pid, os.getpid(), OTHER)
        return pid

    return started


def replaced() -> list[tuple[object, object]]:
    """Pair what other modules may have taken from `os` and `_posixsubprocess` with what they get instead."""
    import _posixsubprocess

    starts: list[Any] = [_posixsubprocess.fork_exec]
    starts += [getattr(os, name) for name in ("posix_spawn", "posix_spawnp") if hasattr(os, name)]
    return [(real.waitpid, _waitpid), *((start, _noted(start)) for start in starts)]


# -- subprocess and multiprocessing, once a program imports them


def patch_connection(module: Any) -> None:
    """A connection waits for its pipe as a selector does, then reads."""
    receive = module.Connection._recv

    def _recv(self: Any, size: int, *args: Any, **kwargs: Any) -> Any:
        if size > 0:
            module.wait([self])
        return receive(self, size, *args, **kwargs)

    module.Connection._recv = _recv


def patch_synchronize(module: Any) -> None:
    """A lock between processes is tried, and parked while it is taken."""

    def _make_methods(self: Any) -> None:
        own = self._semlock

        def acquire(block: bool = True, timeout: float | None = None) -> bool:
            if own.acquire(False):
                return True
            if not block:
                return False
            free = own.__class__._is_zero
            return bool(poll(lambda: own.acquire(False), lambda: not free(own), deadline_after(timeout)))

        self.acquire, self.release = acquire, own.release

    module.SemLock._make_methods = _make_methods
    module.SemLock.__enter__ = lambda self: self.acquire()


def patch_subprocess(module: Any) -> None:
    """A wait with a timeout is one wait, not one look after another."""
    wait = module.Popen._wait

    def _wait(self: Any, timeout: float | None) -> Any:
        if timeout is None or timeout <= 0 or self.returncode is not None or not hasattr(os, "waitid"):
            return wait(self, timeout)
        poll(lambda: _ended(self.pid), lambda: _ended(self.pid), deadline_after(timeout))
        try:
            return wait(self, 0)
        except module.TimeoutExpired:
            raise module.TimeoutExpired(self.args, timeout) from None

    module.Popen._wait = _wait


PATCHES = {
    "subprocess": patch_subprocess,
    "multiprocessing.connection": patch_connection,
    "multiprocessing.synchronize": patch_synchronize,
}
