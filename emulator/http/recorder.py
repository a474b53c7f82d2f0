"""Pure ASGI middleware that fills a journal."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from emulator.journal.journal import CURRENT, Journal

if TYPE_CHECKING:  # the entrance records before starlette is imported
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Recorder:
    """Listens to both sides; what it passes on is untouched."""

    def __init__(self, app: "ASGIApp", *, journal: Journal) -> None:
        self._app = app
        self._journal = journal

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] != "http" or scope["path"].startswith("/_ftsim/"):
            await self._app(scope, receive, send)
            return
        journal = self._journal
        exchange = journal.open(scope["method"], scope["path"], scope["query_string"].decode("latin-1"))
        CURRENT.set(exchange)
        endings: list[Callable[[], None]] = []
        scope["endings"] = endings
        exchange.request_type = _content_type(scope["headers"])

        async def listen() -> "Message":
            exchange.account = scope.get("account", "")  # known once the guard has let the request in
            message = await receive()
            if chunk := message.get("body"):
                journal.asked(exchange, chunk)
            return message

        async def speak(message: "Message") -> None:
            if message["type"] == "http.response.start":
                exchange.account = scope.get("account", "")
                journal.tells(exchange, message["status"])
                exchange.response_type = _content_type(message.get("headers", ()))
            elif chunk := message.get("body"):
                journal.answered(exchange, chunk)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                journal.close(exchange)  # before it is out: whoever has the answer may read the journal at once
            await send(message)

        try:
            await self._app(scope, listen, speak)
        except BaseException as error:
            exchange.error = f"{type(error).__name__}: {error}"
            raise
        finally:
            if not exchange.ended:
                journal.close(exchange)
            for end in endings:
                end()


def _content_type(headers: "list[tuple[bytes, bytes]] | tuple[()]") -> str:
    """Header names are lower-case, in what a server hands in and in what an app hands out (ASGI)."""
    for name, value in headers:
        if name == b"content-type":
            return value.decode("latin-1")
    return ""
