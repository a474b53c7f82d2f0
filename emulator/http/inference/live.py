"""Generations while they are computed: what backend threads tell, read in the event loop (WIRE 3.1)."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from emulator.backend import GeneratedToken, GenerateRequest, Generation
from emulator.core.clock import Clock
from emulator.core.errors import Cancelled
from emulator.platform.deployments.completions import Completions, Target, failure

SIBLINGS_S = 0.02
"""A seeded request stays in flight for at least so long, so that the siblings sent along with it still meet it."""
ALONE_S = 0.0025
"""The same where nobody else is connected: the time in which another connection would be seen. An event loop rounds up
to whole milliseconds, so it is three mostly."""

PAUSE_S = 0.02
"""Between two looks at the news: tokens that come faster than anybody reads share a write, which costs most."""


@dataclass(frozen=True)
class TokensAdded:
    """New tokens of a choice, and the text that can be shown with them."""

    index: int
    tokens: Sequence[GeneratedToken]
    text: str


@dataclass(frozen=True)
class ChoiceFinished:
    """A choice is finished."""

    index: int
    result: Generation


class Live:
    """The choices of one request. `close` cancels what is unfinished: its rows leave the batch.

    Raises InvalidArgument for a prompt that does not fit. To be made in the event loop; equal requests that are open
    at once are siblings (`Completions.in_flight`).
    """

    def __init__(
        self,
        completions: Completions,
        on: Target,
        asked: Sequence[GenerateRequest],
        key: bytes,
        *,
        told: bool,
        alone: Callable[[], bool] = lambda: False,
    ) -> None:
        """Start one choice per element of `asked`; with `told` tokens are news, otherwise only finished choices are.

        `alone` says whether nobody but this request's client is connected who might send a sibling.
        """
        self._alone = alone
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._over = asyncio.Event()
        self._looked = False
        self._woken = False
        self._left = False
        self._heard: deque[TokensAdded | tuple[int, Future[Generation]]] = deque()
        self._began = Clock.elapsed()
        self._futures: list[Future[Generation]] = []
        self._seeded = bool(asked) and asked[0].seed is not None and asked[0].temperature > 0
        self._flight = contextlib.ExitStack()
        self._flight.enter_context(completions.in_flight(key))
        try:
            for index, one in enumerate(asked):
                self._futures.append(completions.submit(on, one, key, self._listener(index) if told else None))
                self._futures[-1].add_done_callback(self._ender(index))
        except BaseException:
            self.close()
            raise
        self._open = len(asked)

    async def news(self) -> list[TokensAdded | ChoiceFinished]:
        """Give what happened since the last call, in order, at least one thing.

        Raises Internal when a choice failed, Cancelled after `leave`.
        """
        if self._looked:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), PAUSE_S)
        self._looked = True
        while True:
            await self._changed.wait()
            self._changed.clear()
            self._over.clear()
            if self._left:
                raise Cancelled("the client has left before it was answered")
            self._woken = False  # before looking: what is heard from now on wakes again
            if taken := list(self._take()):
                return taken

    @property
    def open(self) -> bool:
        """True while a choice is unfinished."""
        return self._open > 0

    async def release(self) -> None:
        """Leave the flight of equal requests, once siblings have had the time to join it."""
        if self._seeded:
            await self._until(ALONE_S)
            if not self._alone():
                await self._until(SIBLINGS_S)
        self._flight.close()

    async def _until(self, seconds: float) -> None:
        """Wait until it is so long since the request began."""
        await asyncio.sleep(max(0.0, seconds - (Clock.elapsed() - self._began)))

    def leave(self) -> None:
        """Close since nobody waits any more, and end whoever asks for news."""
        self._left = True
        self.close()
        self._changed.set()
        self._over.set()

    def close(self) -> None:
        for future in self._futures:
            future.cancel()
        self._flight.close()

    def _take(self) -> Iterator[TokensAdded | ChoiceFinished]:
        first = True
        while self._heard:
            one = self._heard.popleft()
            if isinstance(one, TokensAdded):
                yield one
            elif (error := one[1].exception()) is None:
                self._open -= 1
                yield ChoiceFinished(one[0], one[1].result())
            elif first:
                raise failure(error) from error
            else:  # what came before it is told first
                self._heard.appendleft(one)
                self._changed.set()
                self._over.set()
                return
            first = False

    def _listener(self, index: int) -> Callable[[Sequence[GeneratedToken], str], None]:
        return lambda tokens, text: self._hear(TokensAdded(index, tokens, text))

    def _ender(self, index: int) -> Callable[["Future[Generation]"], None]:
        return lambda future: self._hear((index, future))

    def _hear(self, one: TokensAdded | tuple[int, "Future[Generation]"]) -> None:
        """Note it, in a thread of the backend, and wake the reader unless that is on its way. An end is not put off."""
        self._heard.append(one)
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it whoever would read
            if not self._woken:
                self._woken = True
                self._loop.call_soon_threadsafe(self._changed.set)
            if not isinstance(one, TokensAdded):
                self._loop.call_soon_threadsafe(self._over.set)
