"""The server's first ASGI app: healthy as soon as the platform is there, open when the application is.

Importing the application (FastAPI, the routes, their models) takes longer than all the rest of a start. Meanwhile a
client already learns that somebody is here, and what it asks waits at the door instead of being refused.
"""

import asyncio
from concurrent.futures import Future
from typing import TYPE_CHECKING

from emulator.http.recorder import Recorder
from emulator.journal.journal import Journal

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

HEALTHY = b'{"status":"ok"}'


class Entrance:
    """Passes everything on to the application; before `open`, keeps what it cannot answer itself waiting."""

    def __init__(self, journal: Journal) -> None:
        self._app: ASGIApp | None = None
        self._opened: Future[ASGIApp] = Future()
        self._health = Recorder(_health, journal=journal)

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
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


def _asks_health(scope: "Scope") -> bool:
    return bool(scope["type"] == "http" and scope["path"] == "/healthz" and scope["method"] == "GET")


async def _health(_scope: "Scope", _receive: "Receive", send: "Send") -> None:
    await _say(send, 200, HEALTHY)


async def _refusal(_scope: "Scope", _receive: "Receive", send: "Send") -> None:
    await _say(send, 503, b'{"code":14,"message":"the emulator did not start","details":[]}')


async def _say(send: "Send", status: int, body: bytes) -> None:
    headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
