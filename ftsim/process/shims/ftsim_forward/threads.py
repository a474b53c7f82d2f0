"""Locks, queues and threads whose waits can be seen; `threading` and `queue` make all of theirs from these."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from ftsim_forward import real
from ftsim_forward.waits import (
    Waiter,
    deadline_after,
    pass_on,
    process,
    wait_for,
)


class Lock:
    """`threading.Lock`; a thread that has to wait for it is parked."""

    __slots__ = ("__weakref__", "_inner", "_waiters")
    _make: Callable[[], Any] = staticmethod(real.allocate_lock)

    def __init__(self) -> None:
        self._inner = self._make()
        self._waiters: deque[Waiter] = deque()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if self._inner.acquire(False):
            return True
        if not blocking:
            return bool(self._inner.acquire(False, timeout))  # raises ValueError where a timeout is given
        if timeout < 0 and timeout != -1:
            raise ValueError("timeout value must be a non-negative number")
        until = deadline_after(None if timeout < 0 else timeout)
        return timeout != 0 and bool(wait_for(self._take, self._waiters, until))

    def _take(self) -> bool:
        return bool(self._inner.acquire(False))

    def release(self) -> None:
        self._inner.release()
        if self._waiters:
            pass_on(self._waiters)

    def __enter__(self) -> bool:
        return self._inner.acquire(False) or self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()

    def locked(self) -> bool:
        return bool(self._inner.locked())

    def _at_fork_reinit(self) -> None:
        self._inner._at_fork_reinit()
        self._waiters.clear()

    acquire_lock, release_lock, locked_lock = acquire, release, locked

    def __repr__(self) -> str:
        return f"<{'locked' if self.locked() else 'unlocked'} lock of a shared clock at {id(self):#x}>"


class RLock(Lock):
    """`threading.RLock`; a thread that has to wait for it is parked."""

    __slots__ = ()
    _make = staticmethod(real.reentrant_lock)

    def release(self) -> None:
        self._inner.release()
        if self._waiters and not self._inner._is_owned():
            pass_on(self._waiters)

    def locked(self) -> bool:
        if self._inner._is_owned():
            return True
        if self._inner.acquire(False):
            self._inner.release()
            return False
        return True

    def _is_owned(self) -> bool:
        return bool(self._inner._is_owned())

    def _recursion_count(self) -> int:
        return int(self._inner._recursion_count())

    def _release_save(self) -> Any:
        state = self._inner._release_save()
        if self._waiters:
            pass_on(self._waiters)
        return state

    def _acquire_restore(self, state: Any) -> None:
        for _ in range(state[0]):  # as often as it was held
            self.acquire()


class SimpleQueue:
    """`queue.SimpleQueue`: may be put into while it is being put into, as by a finaliser."""

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self._waiters: deque[Waiter] = deque()

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        self._items.append(item)
        pass_on(self._waiters)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        if timeout is not None and timeout < 0 and block:
            raise ValueError("'timeout' must be a non-negative number")
        found: list[Any] = []

        def take() -> bool:
            try:
                found.append(self._items.popleft())
            except IndexError:
                return False
            return True

        if take() or (block and wait_for(take, self._waiters, deadline_after(timeout))):
            return found[0]
        raise queue.Empty

    def put_nowait(self, item: Any) -> None:
        self.put(item)

    def get_nowait(self) -> Any:
        return self.get(False)

    def empty(self) -> bool:
        return not self._items

    def qsize(self) -> int:
        return len(self._items)

    __class_getitem__ = classmethod(lambda cls, item: cls)


# -- threads

_ENDED, _WAITERS = "_ftsim_ended", "_ftsim_waiters"


def _start(thread: threading.Thread) -> None:
    vars(thread).setdefault(_WAITERS, deque())
    real.start(thread)


def _bootstrap(thread: threading.Thread) -> None:
    try:
        real.bootstrap(thread)
    finally:
        vars(thread)[_ENDED] = True
        waiters = vars(thread).get(_WAITERS, deque())
        while waiters:
            pass_on(waiters)


def _join(thread: threading.Thread, timeout: float | None = None) -> None:
    own = vars(thread)
    if _WAITERS in own and thread.is_alive() and thread is not threading.current_thread():
        ended = wait_for(lambda: own.get(_ENDED, False), own[_WAITERS], deadline_after(timeout))
        return real.join(thread, None if ended else 0)
    return real.join(thread, timeout)


def _join_all() -> None:
    """Wait for the threads that the interpreter waits for at its end, where the wait can be seen."""
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.current_thread() and thread is not threading.main_thread():
            thread.join()


def _counted(start: Callable[..., Any]) -> Callable[..., Any]:
    """Start threads so that one which does not run yet is known."""

    def started(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        def run(*given: Any, **named: Any) -> Any:
            process.starting.discard(token)
            return function(*given, **named)

        token = object()
        process.starting.add(token)
        try:
            return start(run, *args, **kwargs)
        except BaseException:
            process.starting.discard(token)
            raise

    return started


def replaced() -> list[tuple[object, object]]:
    """Pair what other modules may have taken from `threading` and `queue` with what they get instead."""
    return [
        (threading.Lock, Lock),
        (real.allocate_lock, Lock),
        (threading.RLock, RLock),
        (queue.SimpleQueue, SimpleQueue),
        (real.start_new_thread, _counted(real.start_new_thread)),
    ]


def install() -> None:
    """Have `threading` make locks and threads that can be seen."""
    module: Any = threading
    module._active_limbo_lock = RLock()
    if hasattr(module, "_CRLock"):
        module._CRLock = RLock
    module.Thread.start, module.Thread.join, module.Thread._bootstrap_inner = _start, _join, _bootstrap
    if hasattr(module, "_start_joinable_thread"):
        module._start_joinable_thread = _counted(module._start_joinable_thread)
    module._register_atexit(_join_all)
