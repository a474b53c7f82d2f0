"""`ftsim record`: a proxy before any service that speaks the API, which keeps what passes as a journal.

It adds nothing and repeats nothing: bodies pass through in pieces as they come, in both directions; it has no time
limits of its own; where the service breaks a connection, or cannot be reached, the client's connection breaks. The one
thing that it changes is that the service is asked not to compress, since a journal is to be read.
"""

import asyncio
import contextlib
import re
import socket
import threading
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from emulator.core.clock import Clock
from emulator.http.listener import listen
from emulator.journal import file as journal_file
from emulator.journal.journal import Exchange, Journal
from emulator.journal.redact import Redactor
from emulator.state.folder import private
from ftsim.process.stop import Stop, by_signals

BODY_LIMIT = 8_000_000
"""Bytes of a body that are kept; the rest passes, and the exchange is marked as not whole."""
MOST, BUDGET = 100_000, 1_000_000_000
SAVE_S = 5.0
"""Seconds after which what has passed is in the file, should this process be killed."""
_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding "
    b"upgrade host accept-encoding".split()
)
"""Headers that are about one connection, or that this proxy decides."""
_ACCOUNT = re.compile(r"/accounts/([^/]+)|/rlorTrainerJobs/([^/]+)/[^/]+/api/")
_LOCAL = ("127.0.0.1", "localhost", "::1")


class Recorder:
    """An ASGI application that asks `target` what it is asked, and notes both in `journal`."""

    def __init__(self, target: str, *, clock: Clock | None = None) -> None:
        """`target` is the address of the service, without a path; raises ValueError for another one."""
        parts = urlsplit(target)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
            raise ValueError(f"{target!r} is no address of a service: write https://HOST or http://HOST:PORT")
        self.target = target.rstrip("/")
        self.journal = Journal(clock or Clock(), size=MOST, body_limit=BODY_LIMIT, budget=BUDGET)
        self.account = ""
        """The account that the newest request with one was about."""
        self._unknown: list[Exchange] = []
        """Exchanges with a key, of an account that no path has told yet."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        remote = parts.hostname not in _LOCAL
        self._client = httpx.AsyncClient(timeout=None, limits=limits, trust_env=remote, follow_redirects=False)
        self.connections: Collection[Any] = ()
        """Those of the server that this runs in; one of them is ended where the service ends its own."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path = scope.get("raw_path", scope["path"].encode()).decode("latin-1").partition("?")[0]
        exchange = self.journal.open(scope["method"], scope["path"], scope["query_string"].decode("latin-1"))
        self._note_caller(exchange, scope)
        passing = asyncio.create_task(self._pass(exchange, path, scope, receive, send))
        try:
            await passing
        except (httpx.HTTPError, httpx.InvalidURL, ConnectionError) as error:
            exchange.error = f"{type(error).__name__}: {error}"
            self.journal.close(exchange)
            await self._hang_up(scope)
        except asyncio.CancelledError:
            exchange.error = "the client went away"
            self.journal.close(exchange)
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise

    async def close(self) -> None:
        """Let go of the service."""
        await self._client.aclose()

    async def _pass(self, exchange: Exchange, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(name, value) for name, value in scope["headers"] if name not in _HOP]
        headers.append((b"accept-encoding", b"identity"))
        sent = asyncio.Event()
        body = self._body(exchange, receive, sent) if _has_body(scope) else None
        url = f"{self.target}{path}" + (f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else "")
        request = self._client.build_request(scope["method"], url, headers=headers, content=body)
        if body is None:
            sent.set()
        async with _gone(receive, sent):
            answer = await self._client.send(request, stream=True)
            try:
                exchange.status = answer.status_code
                exchange.response_type = answer.headers.get("content-type", "")
                kept = [(name.lower(), value) for name, value in answer.headers.raw if name.lower() not in _HOP]
                self.journal.tells(exchange)
                await send({"type": "http.response.start", "status": answer.status_code, "headers": kept})
                async for chunk in answer.aiter_raw():
                    self.journal.answered(exchange, chunk)
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                self.journal.answered(exchange, b"", last=True)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            finally:
                await answer.aclose()

    async def _body(self, exchange: Exchange, receive: Receive, sent: asyncio.Event) -> AsyncIterator[bytes]:
        """The pieces of a request's body, each noted as it passes."""
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ConnectionError("the client went away")
            if chunk := message.get("body", b""):
                self.journal.asked(exchange, chunk)
                yield chunk
            more = message.get("more_body", False)
        sent.set()

    def _note_caller(self, exchange: Exchange, scope: Scope) -> None:
        """Note whose request it is, by its path or by those before it, and learn its key, which is written nowhere."""
        headers = dict(scope["headers"])
        exchange.request_type = headers.get(b"content-type", b"").decode("latin-1")
        keys = [headers.get(b"x-api-key", b""), headers.get(b"authorization", b"").partition(b" ")[2].strip()]
        known = {key.decode("latin-1") for key in keys if key}
        if not known <= {key.decode("latin-1") for key in self.journal.redactor.keys}:
            told = {one for key in known for one in (key, key.removeprefix("tml-"))}
            self.journal.redactor = Redactor({*(key.decode("latin-1") for key in self.journal.redactor.keys), *told})
        found = _ACCOUNT.search(exchange.path)
        account = (found[1] or found[2]) if found else ""
        if account and account not in ("-", "fireworks"):
            self.account = account
            while self._unknown:
                self._unknown.pop().account = account
        exchange.account = self.account if known else ""
        if known and not self.account:
            self._unknown.append(exchange)

    async def _hang_up(self, scope: Scope) -> None:
        """End the connection of a request whose answer does not come whole, as the service did."""
        client = tuple(scope["client"] or ())
        mine = next((one for one in list(self.connections) if getattr(one, "client", None) == client), None)
        if mine is None:
            return
        mine.transport.close()
        while mine in self.connections:  # until the server knows that nobody waits for the rest
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def _gone(receive: Receive, sent: asyncio.Event) -> AsyncIterator[None]:
    """Inside, this task is cancelled once the client has gone, so that the service need not go on for nobody."""
    task = asyncio.current_task()

    async def watch() -> None:
        await sent.wait()
        while (message := await receive())["type"] != "http.disconnect":
            _ = message
        if task is not None:
            task.cancel()

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()


def _has_body(scope: Scope) -> bool:
    names = {name for name, _ in scope["headers"]}
    return b"transfer-encoding" in names or dict(scope["headers"]).get(b"content-length", b"0") != b"0"


class Recording:
    """A recorder that listens on a port in a thread, and its journal in a file that is never older than SAVE_S."""

    def __init__(self, target: str, file: Path, *, host: str = "127.0.0.1", port: int = 0) -> None:
        """Raises ValueError for a `target` that is no address, OSError for a file that cannot be written."""
        self.recorder = Recorder(target)
        self.file = file
        self._host, self._port = host, port
        self._done = threading.Event()
        self._written = -1
        self.url = ""
        self._write()

    def __enter__(self) -> "Recording":
        """Raises Unavailable when the port cannot be had."""
        sock, self.url = listen(self._host, self._port)
        app: ASGIApp = self.recorder
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_keep_alive=75)
        self._server = uvicorn.Server(config)
        self.recorder.connections = self._server.server_state.connections
        self._thread = threading.Thread(target=self._serve, args=(sock,), name="recorder", daemon=True)
        self._saving = threading.Thread(target=self._save, name="recording", daemon=True)
        self._thread.start()
        self._saving.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(15)
        self._done.set()
        self._saving.join(15)
        self._write()

    @property
    def journal(self) -> Journal:
        return self.recorder.journal

    def _serve(self, sock: socket.socket) -> None:
        async def serve() -> None:
            try:
                await self._server.serve([sock])
            finally:
                await self.recorder.close()

        asyncio.run(serve())

    def _save(self) -> None:
        while not self._done.wait(SAVE_S):
            self._write()

    def _write(self) -> None:
        """Replace the file by what has passed so far, when something has."""
        entries = len(self.journal.entries)
        if entries == self._written:
            return
        aside = self.file.with_name(f".{self.file.name}.unfinished")
        with private(aside) as out:
            out.writelines(journal_file.write(self.journal, seed=0, account=self.recorder.account or "local"))
        aside.replace(self.file)
        self._written = entries


def record(target: str, file: Path, *, host: str, port: int, announce: Callable[[Recording], None], stop: Stop) -> int:
    """Record until told to stop; the number of exchanges. Raises ValueError, OSError, Unavailable."""
    with by_signals(stop), Recording(target, file, host=host, port=port) as recording:
        announce(recording)
        stop.wait()
    return len(recording.journal)


def environment(url: str) -> dict[str, str]:
    """The variables under which a client's requests pass the recorder; its key stays its own."""
    return {
        "FIREWORKS_BASE_URL": url,
        "FIREWORKS_TRAINER_GATEWAY_URL": url,
        "TINKER_BASE_URL": f"{url}/training/v1/serverless",
    }
