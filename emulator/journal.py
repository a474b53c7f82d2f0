"""Every exchange, in memory: what was asked and answered, how long it took. Headers, and so keys, are not kept."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from emulator.clock import Clock
from emulator.endpoints import endpoint


@dataclass
class Exchange:
    """One request and its answer; bodies are cut to the journal's limit, `seconds` is measured, 0 while it runs."""

    method: str
    path: str
    query: str
    at: int
    status: int = 0
    seconds: float = 0.0
    request: bytes = b""
    response: bytes = b""
    request_size: int = 0
    response_size: int = 0
    error: str = ""
    _started: float = field(default=0.0, repr=False)

    @property
    def endpoint(self) -> str:
        """`promote`, `forward_backward`, ...: what quirks select by."""
        return endpoint(self.method, self.path)[0]

    @property
    def json(self) -> Any:
        """The request body; None when it is empty or was cut."""
        return _loads(self.request, self.request_size)

    @property
    def answer(self) -> Any:
        """The response body; None when it is empty, cut or a stream of events."""
        return _loads(self.response, self.response_size)


class Journal:
    """A ring of the newest exchanges."""

    def __init__(self, clock: Clock, *, size: int = 2000, body_limit: int = 4096) -> None:
        self._clock = clock
        self._ring: deque[Exchange] = deque(maxlen=size)
        self._body_limit = body_limit

    def __iter__(self) -> Iterator[Exchange]:
        return iter(list(self._ring))

    def __len__(self) -> int:
        return len(self._ring)

    def of(self, name: str) -> list[Exchange]:
        """The exchanges of one endpoint, oldest first."""
        return [exchange for exchange in self if exchange.endpoint == name]

    def clear(self) -> None:
        self._ring.clear()

    def open(self, method: str, path: str, query: str) -> Exchange:
        exchange = Exchange(method, path, query, self._clock.now(), _started=self._clock.elapsed())
        self._ring.append(exchange)
        return exchange

    def asked(self, exchange: Exchange, chunk: bytes) -> None:
        exchange.request_size += len(chunk)
        if (room := self._body_limit - len(exchange.request)) > 0:
            exchange.request += chunk[:room]

    def answered(self, exchange: Exchange, chunk: bytes) -> None:
        exchange.response_size += len(chunk)
        if (room := self._body_limit - len(exchange.response)) > 0:
            exchange.response += chunk[:room]

    def close(self, exchange: Exchange) -> None:
        exchange.seconds = self._clock.elapsed() - exchange._started


class Recorder:
    """Pure ASGI middleware that fills a journal."""

    def __init__(self, app: ASGIApp, *, journal: Journal) -> None:
        self._app = app
        self._journal = journal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/_ftsim/"):
            await self._app(scope, receive, send)
            return
        journal = self._journal
        exchange = journal.open(scope["method"], scope["path"], scope["query_string"].decode("latin-1"))

        async def listen() -> Message:
            message = await receive()
            if chunk := message.get("body"):
                journal.asked(exchange, chunk)
            return message

        async def speak(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
            elif chunk := message.get("body"):
                journal.answered(exchange, chunk)
            await send(message)

        try:
            await self._app(scope, listen, speak)
        except BaseException as error:
            exchange.error = f"{type(error).__name__}: {error}"
            raise
        finally:
            journal.close(exchange)


def _loads(raw: bytes, size: int) -> Any:
    if not raw or size > len(raw):
        return None
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
