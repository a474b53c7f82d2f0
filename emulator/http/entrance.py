"""The layers that every request passes, in and out, in this order: journal, guard, faults, application.

`Entrance` is the server's first ASGI app: healthy as soon as the platform is there, open when the application is.
Importing the application (Starlette, the routes, their models) takes longer than all the rest of a start. Meanwhile a
client already learns that somebody is here, and what it asks waits instead of being refused. So this module imports
neither of them.
"""

import asyncio
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

from emulator.core import own_warnings
from emulator.journal.journal import CURRENT, Exchange, Journal

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from emulator.http.forwarding import Forwarding
    from emulator.http.guard import Guard

HEALTHY = b'{"status":"ok"}'


class Entrance:
    """Passes everything on to the application; before `open`, keeps what it cannot answer itself waiting."""

    def __init__(self, journal: Journal) -> None:
        self._app: ASGIApp | None = None
        self._opened: Future[ASGIApp] = Future()
        self._health = Layers(_health, journal=journal)

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if warnings.filters[:1] != [own_warnings.FILTER]:  # looked at here, since it is at every request
            own_warnings.in_front()
        app = self._app
        if app is None:
            app = self._health if _asks_health(scope) else await asyncio.shield(asyncio.wrap_future(self._opened))
        await app(scope, receive, send)

    def open(self, app: "ASGIApp") -> None:
        """Answer with `app` from now on, first those who wait; from any thread."""
        self._app = app
        self._opened.set_result(app)

    def give_up(self) -> None:
        """Refuse those who wait, if it never opened; from any thread."""
        if self._app is None:
            self.open(_refusal)


class Layers:
    """The application's one middleware: keeps the journal, asks the guard, lets faults strike, counts the body.

    Without a guard whoever asks is let in; `forwarding` passes on what is for another process; `faults` wraps the
    application where a switch may break an answer.
    """

    def __init__(
        self,
        app: "ASGIApp",
        *,
        journal: Journal,
        guard: "Guard | None" = None,
        faults: "Callable[[ASGIApp], ASGIApp] | None" = None,
        forwarding: "Forwarding | None" = None,
    ) -> None:
        self._app = app
        self._journal = journal
        self._guard = guard
        self._forwarding = forwarding
        self._faults = app if faults is None else faults(app)
        self._retired = frozenset[str]() if guard is None else guard.retired

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["path"].startswith("/_ftsim/") or _asks_page(scope) or self._is_of_the_past(scope):
            await self._admit(scope, receive, send)  # neither what a test sets and looks at, nor what another one asks
        else:
            await self._record(scope, receive, send)

    def _is_of_the_past(self, scope: "Scope") -> bool:
        return bool(self._retired) and self._guard is not None and self._guard.is_of_the_past(scope)

    async def _record(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Write down the request and its answer; what passes is untouched."""
        journal = self._journal
        exchange = journal.open(scope["method"], scope["path"], scope["query_string"].decode("latin-1"))
        CURRENT.set(exchange)
        endings: list[Callable[[], None]] = []
        scope["endings"] = endings
        exchange.request_type = _header(scope["headers"], b"content-type")

        async def speak(message: "Message") -> None:
            if message["type"] == "http.response.start":
                headers = message.get("headers", ())
                exchange.status, exchange.response_type = message["status"], _header(headers, b"content-type")
                if not _header(headers, b"content-length"):  # the first piece of a stream may come much later
                    journal.tells(exchange)
            elif message["type"] == "http.response.body":
                # Closed before it is out: whoever has the answer may read the journal at once.
                journal.answered(exchange, message.get("body", b""), last=not message.get("more_body"))
            await send(message)

        try:
            await self._admit(scope, receive, speak, exchange)
        except BaseException as error:
            exchange.error = f"{type(error).__name__}: {error}"
            raise
        finally:
            if not exchange.ended:
                journal.close(exchange)
            for end in endings:
                end()

    async def _admit(self, scope: "Scope", receive: "Receive", send: "Send", exchange: Exchange | None = None) -> None:
        """Answer a request that the guard lets in, or its refusal; reading raises PayloadTooLarge, Unavailable."""
        guard, app, share = self._guard, self._app, None
        if guard is not None:
            refused, share = guard.judge(scope)
            if exchange is not None:
                exchange.account = scope.get("account", "")
            if refused is not None:
                await refused(scope, receive, send)
                return
            app = app if guard.quirks.quiet else self._faults
        journal = self._journal

        async def listen() -> "Message":
            message = await receive()
            if chunk := message.get("body"):
                if exchange is not None:
                    journal.asked(exchange, chunk)
                if share is not None:
                    share.count(chunk)
            return message

        try:
            if self._forwarding is None:
                await app(scope, listen, send)
            else:
                await self._forwarding.answer(app, scope, listen, send)
        finally:
            if share is not None:
                share.close()


def _header(headers: "list[tuple[bytes, bytes]] | tuple[()]", wanted: bytes) -> str:
    """The value of a header, "" without it.

    Names are lower-case, in what a server hands in and in what an app hands out (ASGI).
    """
    for name, value in headers:
        if name == wanted:
            return value.decode("latin-1")
    return ""


def _asks_health(scope: "Scope") -> bool:
    return bool(scope["type"] == "http" and scope["path"] == "/healthz" and scope["method"] == "GET")


def _asks_page(scope: "Scope") -> bool:
    """Say whether a browser opens the address that the emulator prints, which leads to the console."""
    if scope["path"] != "/" or scope["method"] not in ("GET", "HEAD"):
        return False
    return any(name == b"accept" and b"text/html" in value for name, value in scope["headers"])


async def _health(_scope: "Scope", _receive: "Receive", send: "Send") -> None:
    await _say(send, 200, HEALTHY)


async def _refusal(_scope: "Scope", _receive: "Receive", send: "Send") -> None:
    await _say(send, 503, b'{"code":14,"message":"the emulator did not start","details":[]}')


async def _say(send: "Send", status: int, body: bytes) -> None:
    headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
