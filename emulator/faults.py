"""Pure ASGI middleware for faults of any endpoint: an error status, a lost reply, slowness (FAILURES A15, B2, F16)."""

import asyncio

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from emulator.endpoints import endpoint
from emulator.guard import OPEN
from emulator.quirks import Quirks
from emulator.web import Reply

_CODES = {400: 3, 401: 16, 402: 8, 403: 7, 404: 5, 409: 6, 410: 5, 412: 9, 429: 8, 500: 13, 502: 14, 503: 14, 504: 4}
_NAMES = ("http.fail", "http.lose_reply", "http.delay_s")


class Faults:
    """Asks the quirks before and after each request; costs one attribute read when no switch is on."""

    def __init__(self, app: ASGIApp, *, quirks: Quirks) -> None:
        self._app = app
        self._quirks = quirks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or not self._quirks.any_of(_NAMES) or path in OPEN or path.startswith("/_ftsim/"):
            await self._app(scope, receive, send)
            return
        name, subject = endpoint(scope["method"], path)
        where = {"endpoint": name, **subject}
        if (delay := self._quirks.spend("http.delay_s", **where)) > 0:
            await asyncio.sleep(delay)
        if status := self._quirks.spend("http.fail", **where):
            message = f"injected fault: {name} answers {status}"
            await Reply({"code": _CODES.get(status, 2), "message": message, "details": []}, status)(
                scope, receive, send
            )
            return
        lost = self._quirks.spend("http.lose_reply", **where)
        if lost == "before":
            await _lose(send)
        elif lost == "after":
            await self._app(scope, receive, _ignore)
            await _lose(send)
        else:
            await self._app(scope, receive, send)


async def _ignore(message: Message) -> None:
    """Where a lost reply goes."""


async def _lose(send: Send) -> None:
    """Announce a body and never send it: the server closes the connection, the client sees a transport error."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(orjson.dumps("lost")))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
