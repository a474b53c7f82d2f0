"""A manager's time: its sleeps move the emulator's clock instead of waiting."""

import contextlib
import inspect
import threading
import time
from collections.abc import Callable, Iterator
from unittest import mock

PATIENCE_S, SLEEPS = 86_400.0, 700
"""Seconds that one call of a manager may sleep, on the emulator's clock, and how often."""


class Sleeper:
    """The sleep of one manager; `advance` moves the emulator's clock."""

    def __init__(self, advance: Callable[[float], None]) -> None:
        self._advance = advance
        self.slept = 0.0
        self._left, self._sleeps = PATIENCE_S, 0

    def __call__(self, seconds: float) -> None:
        """Let time pass; raises TimeoutError once a call has slept longer than PATIENCE_S or more often than SLEEPS."""
        self._left -= seconds
        self._sleeps += 1
        if self._left < 0 or self._sleeps > SLEEPS:
            raise TimeoutError(f"one call has slept {self._sleeps} times, {PATIENCE_S - self._left:.0f} s: too long")
        self.slept += seconds
        self._advance(seconds)

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Inside, this thread's `time.sleep` is this, and its clocks go on by what was slept; other threads wait.

        A name imported before (`from time import sleep`) stays what it was.
        """
        self._left, self._sleeps = PATIENCE_S, 0
        me, real = threading.get_ident(), {name: getattr(time, name) for name in ("sleep", *_CLOCKS)}

        def sleep(seconds: float) -> None:
            (self if threading.get_ident() == me else real["sleep"])(seconds)

        def shifted(name: str) -> Callable[[], float]:
            return lambda: real[name]() + (self.slept if threading.get_ident() == me else 0.0)

        with contextlib.ExitStack() as stack:
            stack.enter_context(mock.patch.object(time, "sleep", sleep))
            for name in _CLOCKS:
                stack.enter_context(mock.patch.object(time, name, shifted(name)))
            yield


_CLOCKS = ("time", "monotonic", "perf_counter")


def wants_sleep(factory: Callable[..., object]) -> bool:
    """Say whether `factory` has a parameter `sleep` whose default is the real one, bound when it was defined."""
    try:
        parameter = inspect.signature(factory).parameters.get("sleep")
    except (TypeError, ValueError):  # a callable without a signature
        return False
    return parameter is not None and parameter.default is time.sleep
