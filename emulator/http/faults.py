"""Faults of any endpoint, around the application: an error status, a lost reply, slowness (FAILURES A15, B2, D6).

What comes before the request is carried out: delay, refusal, loss. After it: another status, loss, a body that is cut
or slow. A fault strikes where its switch matches: by endpoint, job, deployment, checkpoint, with a chance or a budget.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Collection
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from emulator.core.endpoints import endpoint
from emulator.core.names import Subject
from emulator.http.guard import OPEN
from emulator.http.web import Reply, refusal
from emulator.quirks import calls
from emulator.quirks.engine import Quirk, Quirks, T

_CODES = {400: 3, 401: 16, 402: 8, 403: 7, 404: 5, 409: 6, 410: 5, 412: 9, 429: 8, 500: 13, 502: 14, 503: 14, 504: 4}
_FAULTS = (
    calls.FAIL,
    calls.APPLY_THEN_FAIL,
    calls.LOSE_REPLY,
    calls.RESET,
    calls.DELAY_S,
    calls.CUT_BODY,
    calls.SLOW_BODY_S,
)
_PIECES = 8


class Faults:
    """Asks the quirks before and after each request; is passed by as long as no switch is on."""

    def __init__(self, app: ASGIApp, *, quirks: Quirks) -> None:
        self._app = app
        self._quirks = quirks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if not self._quirks.any_of(_FAULTS) or path in OPEN or path.startswith("/_ftsim/"):
            await self._app(scope, receive, send)
            return
        name, subject = endpoint(scope["method"], path)
        about = Subject(endpoint=name, **{key: subject.get(key, "") for key in ("job", "deployment", "checkpoint")})

        def spend(quirk: Quirk[T]) -> T:
            return self._quirks.spend(quirk, about)

        if (delay := spend(calls.DELAY_S)) > 0:
            await asyncio.sleep(delay)
        if status := spend(calls.FAIL):
            await _refusal(scope, name, status)(scope, receive, send)
            return
        for quirk, broken in ((calls.LOSE_REPLY, _lose), (calls.RESET, _reset)):
            if when := spend(quirk):
                await (self._app(scope, receive, _ignore) if when == "after" else _listen(receive))
                await broken(scope, send)
                return
        if status := spend(calls.APPLY_THEN_FAIL):  # done, and told that it failed (FAILURES D6)
            await self._app(scope, receive, _ignore)
            await _refusal(scope, name, status)(scope, receive, send)
            return
        keep, seconds = spend(calls.CUT_BODY), spend(calls.SLOW_BODY_S)
        if keep < 0 and seconds <= 0:
            await self._app(scope, receive, send)
            return
        await self._app(scope, receive, _Spoiled(scope, send, keep, seconds))
        if keep >= 0:
            await _hang_up(scope)


def _refusal(scope: Scope, name: str, status: int) -> Reply:
    message = f"injected fault: {name} answers {status}"
    return refusal(scope, status, {"code": _CODES.get(status, 2), "message": message, "details": []})


async def _listen(receive: Receive) -> None:
    """Take the whole request, so that the client is not cut off while it still sends."""
    while (await receive()).get("more_body"):
        pass


async def _ignore(message: Message) -> None:
    """Take a reply that is lost."""


async def _lose(scope: Scope, send: Send) -> None:
    """Announce a body and end the connection instead of sending it; the client sees a transport error."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await _hang_up(scope)


async def _reset(scope: Scope, _send: Send) -> None:
    """Answer with RST."""
    await _hang_up(scope, struct.pack("ii", 1, 0))  # not to linger is what makes the kernel send RST


async def _hang_up(scope: Scope, linger: bytes = b"") -> None:
    """End the connection of this request, one of those that our own server has told the app of.

    Behind another server the answer is left unfinished, which comes to the same but for the RST.
    """
    connections: Collection[Any] = getattr(scope["app"].state, "connections", ())
    mine = next((open_ for open_ in list(connections) if open_.client == tuple(scope["client"] or ())), None)
    if mine is None:
        return
    if linger:
        with contextlib.suppress(OSError):
            mine.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        mine.transport.abort()
    else:
        mine.transport.close()
    while mine in connections:  # until the server knows that nobody waits for the rest
        await asyncio.sleep(0)


class _Spoiled:
    """A `send` that ends the body after `keep` bytes (-1 never), and takes `seconds` longer to pass it on.

    The connection ends with the byte at which the body is cut, so that a stream stops being computed.
    """

    def __init__(self, scope: Scope, send: Send, keep: int, seconds: float) -> None:
        self._scope, self._send = scope, send
        self._keep = keep
        self._pause = seconds / _PIECES
        self._pauses = _PIECES if seconds > 0 else 0
        self._passed = 0

    async def __call__(self, message: Message) -> None:
        chunk = message.get("body", b"") if message["type"] == "http.response.body" else b""
        if not chunk:
            if not 0 <= self._keep < self._passed:  # behind another server too a cut body must not look finished
                await self._send(message)
            return
        kept = chunk if self._keep < 0 else chunk[: max(0, self._keep - self._passed)]
        self._passed += len(chunk)
        size = -(-len(kept) // max(1, self._pauses)) or 1
        for at in range(0, len(kept), size):
            await self._send({"type": "http.response.body", "body": kept[at : at + size], "more_body": True})
            if self._pauses:
                self._pauses -= 1
                await asyncio.sleep(self._pause)
        if self._keep < 0 or self._passed <= self._keep:
            await self._send({"type": "http.response.body", "body": b"", "more_body": message.get("more_body", False)})
        else:
            await _hang_up(self._scope)
