"""Requests for accounts that another process has: passed on to it, answer and all, as they come.

Where that process is dead the request waits until its lease is over, and is answered here.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import TYPE_CHECKING, TypeVar

import httpx

from emulator.core.errors import FailedPrecondition, PlatformError, Unavailable
from emulator.http.web import refusal
from emulator.state.accounts import Accounts

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

T = TypeVar("T")
PASSED = b"x-ftsim-forwarded"
"""The header of a request that has been passed on, and is not again."""
PATIENCE_S = 15.0
"""Seconds that a request waits for an account whose process is dead; longer than a lease lasts."""
_AGAIN_S = 0.1
_LOOK_S = 1.0
_CONNECT_S = 3.0
_HOP = frozenset((b"connection", b"keep-alive", b"transfer-encoding", b"te", b"upgrade", b"host", b"content-length"))
_KEPT_BACK = _HOP - {b"content-length"}
_FOR_ALL = frozenset(("reset", "seed", "clock", "quirks", "snapshot"))
"""Parts of the control API that change or show the whole state, of which a process has only a part."""


class Forwarding:
    """Lets an application answer for the accounts that are here, and others for theirs."""

    def __init__(self, accounts: Accounts, *, shared: bool) -> None:
        self._accounts = accounts
        self._shared = shared
        self._client: httpx.AsyncClient | None = None

    async def answer(self, app: "ASGIApp", scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer a request here or elsewhere, or refuse it."""
        try:
            if self._shared:
                _refuse_for_all(scope)
            account = scope.get("account") or _account_in(scope["path"])
            if self._accounts.unsure:
                await asyncio.to_thread(self._accounts.make_sure)
            if not account or await self._is_here(account, scope, receive, send):
                await app(scope, receive, send)
        except PlatformError as error:
            await refusal(scope, error.http, error.envelope())(scope, receive, send)

    async def _is_here(self, account: str, scope: "Scope", receive: "Receive", send: "Send") -> bool:
        """Say whether an account is here; when it is not the request was answered. Raises Unavailable."""
        if self._accounts.here(account):
            return True
        passed, waited = any(name == PASSED for name, _ in scope["headers"]), 0.0
        while True:
            address = await asyncio.to_thread(self._accounts.place, account, afresh=waited > 0)
            if not address:
                return True
            if not passed:
                try:
                    await self._pass_on(account, address, scope, receive, send)
                    return False
                except (httpx.ConnectError, httpx.ConnectTimeout) as error:  # not a byte of it has been sent
                    reason = f"the process at {address}, which has account {account!r}, does not answer ({error})"
            else:
                reason = f"account {account!r} is at {address}: ask again"
            if waited >= PATIENCE_S:
                raise Unavailable(reason)
            await asyncio.sleep(_AGAIN_S)
            waited += _AGAIN_S

    async def _stays(self, awaited: "Coroutine[object, object, T]", account: str, address: str) -> T:
        """Wait for another process, as long as the account is there; raises Unavailable once it is not.

        A process that hangs, or a machine that is gone, leaves its connections open.
        """
        task = asyncio.ensure_future(awaited)
        try:
            while not (await asyncio.wait({task}, timeout=_LOOK_S))[0]:
                if await asyncio.to_thread(self._accounts.place, account, afresh=True) != address:
                    raise Unavailable(f"the process at {address} was taken for dead over this request: ask again")
            return task.result()
        finally:
            task.cancel()

    async def _pass_on(self, account: str, address: str, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Ask another process, and send on what it answers; raises httpx.ConnectError before anything was sent."""
        if self._client is None:
            timeout = httpx.Timeout(None, connect=_CONNECT_S)
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
            self._client = httpx.AsyncClient(timeout=timeout, limits=limits, trust_env=False)
        query = scope["query_string"].decode("latin-1")
        url = address + scope.get("raw_path", scope["path"].encode()).decode("latin-1") + (f"?{query}" if query else "")
        headers = [(name, value) for name, value in scope["headers"] if name not in _HOP]
        length = next((value for name, value in scope["headers"] if name == b"content-length"), None)
        chunked = any(name == b"transfer-encoding" for name, _ in scope["headers"])
        if length is not None:
            headers.append((b"content-length", length))
        body = _body(receive) if chunked or (length is not None and length != b"0") else None
        asked = self._client.build_request(scope["method"], url, headers=[*headers, (PASSED, b"1")], content=body)
        begun = False
        try:
            answer = await self._stays(self._client.send(asked, stream=True), account, address)
            left = asyncio.ensure_future(_left(receive))
            try:
                kept = [(name.lower(), value) for name, value in answer.headers.raw if name.lower() not in _KEPT_BACK]
                await send({"type": "http.response.start", "status": answer.status_code, "headers": kept})
                begun = True
                chunks = answer.aiter_raw()
                while (chunk := await self._stays(_next(chunks), account, address)) and not left.done():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
            finally:
                left.cancel()
                await answer.aclose()
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise
        except (httpx.HTTPError, Unavailable) as error:
            if begun:  # a client that has a part of an answer is told by the end of its connection
                raise ConnectionError(f"the process at {address} did not finish its answer") from error
            raise Unavailable(f"the process at {address} died over this request ({error!r}): ask again") from error


async def _body(receive: "Receive") -> AsyncIterator[bytes]:
    while True:
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            raise httpx.WriteError("the client left before its body was whole")
        yield message.get("body", b"")
        if not message.get("more_body"):
            return


async def _next(chunks: AsyncIterator[bytes]) -> bytes:
    """The next piece of an answer, none at its end."""
    async for chunk in chunks:
        if chunk:
            return chunk
    return b""


async def _left(receive: "Receive") -> None:
    """Return once the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _account_in(path: str) -> str:
    """The account that a path names, of a request without a key."""
    parts = path.split("/", 4)
    return parts[3] if parts[1:3] == ["v1", "accounts"] and len(parts) > 4 else ""


def _refuse_for_all(scope: "Scope") -> None:
    """Raises FailedPrecondition for what concerns the state of all accounts, or of every process."""
    parts = scope["path"].split("/")
    if len(parts) != 3 or parts[1] != "_ftsim" or (scope["method"], parts[2]) == ("GET", "quirks"):
        return
    if parts[2] in _FOR_ALL:
        raise FailedPrecondition(
            f"{parts[2]} concerns all accounts, and this emulator has only some (--share): stop all but one, without "
            "--share; switches that all should have are given at the start, --quirk"
        )
