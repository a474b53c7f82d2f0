"""The rest of an operation once its trainer may go on: a save whose files are written beside the steps."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from emulator.core import threads


@dataclass(frozen=True)
class Later:
    """The rest of an operation, which gives its answer; another thread does it while steps go on."""

    finish: Callable[[], Mapping[str, Any]]


class Beside:
    """The place for what a trainer does beside its steps: one thing at a time."""

    def __init__(self) -> None:
        self._idle = threading.Event()
        self._idle.set()

    def begin(self, work: Callable[[], object], name: str) -> None:
        """Start it on a thread of its own, which the interpreter waits for at its end; `wait` comes before."""
        self._idle.clear()

        def run() -> None:
            try:
                work()
            finally:
                self._idle.set()

        threads.start(run, name)

    def wait(self, timeout: float | None = None) -> None:
        """Return once it is done, or so many seconds are over."""
        self._idle.wait(timeout)
