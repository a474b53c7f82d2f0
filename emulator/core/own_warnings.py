"""Warnings in the emulator's own threads: the filters of the program around it do not decide about them.

A program started with `-W error`, and a test whose warnings are errors, ask that of their own code. Filters exist once
per process, so a deprecation inside a library that the emulator calls would fail a request. `warnings.catch_warnings`
is no way out: it exchanges the filters of every thread, and where two of them overlap the wrong ones stay behind for
good. So one filter stands in front of all others, which is asked about every warning and matches in the emulator's
threads alone; what a thread is, a context variable says, which worker threads of the event loop inherit.
"""

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
_own: ContextVar[bool] = ContextVar("ftsim_own_warnings", default=False)
_obeyed = False


class _OwnThread:
    """Stands where a filter has the pattern of a message: matches any, in a thread of the emulator."""

    def match(self, _message: str) -> bool:
        return _own.get()

    def __reduce__(self) -> tuple[Callable[[str], "re.Pattern[str]"], tuple[str]]:
        """Match nothing in another process: libraries send the filters to their workers."""
        return re.compile, ("(?!)",)


FILTER: Any = ("ignore", _OwnThread(), Warning, None, 0)


def in_front() -> None:
    """Put the filter in front again, should the program have changed its filters since; costs next to nothing."""
    filters: Any = warnings.filters  # declared as a sequence of patterns; it is a list, and takes whatever matches
    if not filters or filters[0] is not FILTER:
        filters.insert(0, FILTER)


def apart(work: Callable[P, T]) -> Callable[P, T]:
    """Make of `work` what a thread of the emulator runs: its warnings are the emulator's own."""

    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        with own():
            return work(*args, **kwargs)

    return run


def own() -> AbstractContextManager[None]:
    """Take the warnings of this thread inside for the emulator's own, wherever a caller has started it."""
    return nullcontext() if _obeyed else ignored()


@contextmanager
def ignored() -> Iterator[None]:
    """Ignore the warnings of this thread inside."""
    in_front()
    before = _own.set(True)
    try:
        yield
    finally:
        _own.reset(before)


def obey() -> None:
    """Let the program's filters decide about threads that start from now on: for tests of the emulator itself."""
    global _obeyed
    _obeyed = True
