"""Stand-ins for `time` and `asyncio` in a module of a client: it waits on the emulator's clock, nobody waits."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from types import ModuleType
from typing import Any

import anyio


class FakeTime:
    """`time` whose sleeps move this clock and call `advance` instead of waiting; `slept` is what they add up to.

    `meanwhile` is called in every sleep, for what must have happened before the sleeper goes on. A thread or task sees
    its own sleeps only, in its clocks and in `slept_here`: a heartbeat that goes round and round must not use up the
    patience of a call beside it.
    """

    def __init__(self, advance: Callable[[float], None]) -> None:
        self._advance = advance
        self.slept = 0.0
        self._mine: ContextVar[float] = ContextVar("slept", default=0.0)
        self.meanwhile: Callable[[], None] = lambda: None

    @property
    def slept_here(self) -> float:
        """The sum of the sleeps of this thread or task, in seconds."""
        return self._mine.get()

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
        self._mine.set(self.slept_here + seconds)
        self._advance(seconds)
        self.meanwhile()

    def time(self) -> float:
        return time.time() + self.slept_here

    def monotonic(self) -> float:
        return time.monotonic() + self.slept_here

    def perf_counter(self) -> float:
        return time.perf_counter() + self.slept_here

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


class FakeAsync:
    """`asyncio` or `anyio` whose sleeps are those of a `FakeTime`."""

    def __init__(self, clock: FakeTime, real: ModuleType) -> None:
        self._clock = clock
        self._real = real

    async def sleep(self, seconds: float, result: Any = None) -> Any:
        self._clock.sleep(seconds)
        return await asyncio.sleep(0, result)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


@contextlib.contextmanager
def fake_time(clock: FakeTime, *modules: ModuleType) -> Iterator[None]:
    """Replace the `time`, `asyncio` and `anyio` that these modules imported; names imported from them stay."""
    stand_ins: dict[str, tuple[ModuleType, Any]] = {
        "time": (time, clock),
        "asyncio": (asyncio, FakeAsync(clock, asyncio)),
        "anyio": (anyio, FakeAsync(clock, anyio)),
    }
    replaced = [
        (module, name, was, now)
        for module in modules
        for name, (was, now) in stand_ins.items()
        if getattr(module, name, None) is was
    ]
    for module, name, _, now in replaced:
        setattr(module, name, now)
    try:
        yield
    finally:
        for module, name, was, _ in replaced:
            setattr(module, name, was)
