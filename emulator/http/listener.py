"""The socket that the emulator listens on, and the uvicorn server that answers there."""

import asyncio
import contextlib
import socket
import sys
import threading
from collections.abc import Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from emulator.core import limits
from emulator.core.errors import Unavailable

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_SAID = b'{"code":14,"message":"no file descriptors are left: close connections, or raise ulimit -n","details":[]}'
_FULL = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close\r\n"
_FULL += b"content-length: %d\r\n\r\n" % len(_SAID) + _SAID

_FRESH_S = 1.0
"""A connection as young may be about to ask."""
_ACCEPTED = 4
"""Connections that are accepted in one turn of the loop, so that each can be refused before descriptors run out."""
_QUEUE = 1024


def _most_descriptors() -> int:
    """Return the number of descriptors that the process may have."""
    try:
        import resource
    except ImportError:  # not a POSIX system
        return sys.maxsize
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def listen(host: str, port: int) -> tuple[socket.socket, str]:
    """A listening socket (`port` 0 takes a free one) and the URL by which a client here reaches it.

    Raises Unavailable when the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio looks at the protocol number
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(_QUEUE)
    except (OSError, OverflowError) as error:  # a port that is none overflows
        sock.close()
        raise Unavailable(f"cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}") from error
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return sock, f"http://{f'[{shown}]' if ':' in shown else shown}:{sock.getsockname()[1]}"


class _Protocol(HttpToolsProtocol):
    """Knows when it last heard of its client, and makes room where descriptors are few.

    It never logs a request, whatever the program around does to uvicorn's loggers: queries may carry keys.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.access_log = False
        self.heard = self.loop.time()
        self.requests = 0
        """How many requests have begun."""
        self._refuses = False

    def on_message_begin(self) -> None:
        self.requests += 1
        super().on_message_begin()

    @property
    def newest_path(self) -> str:
        """The path of the newest request, "" while it is not known."""
        return str(self.scope.get("path", "")) if self.requests else ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        if sock is None or sock.fileno() < _most_descriptors() - limits.DESCRIPTORS.value:
            return  # a new descriptor is the lowest that is free
        idle = [other for other in self.connections if isinstance(other, _Protocol) and other.idle]
        longest = min(idle, key=lambda one: one.heard)
        if self.heard - longest.heard > _FRESH_S:
            longest.transport.abort()
        else:
            self._refuses = True  # once the request is here: what is closed before it was read is reset
            self.loop.call_later(_FRESH_S, transport.abort)

    def data_received(self, data: bytes) -> None:
        self.heard = self.loop.time()
        if self._refuses:
            self.transport.write(_FULL)
            self.transport.close()
        else:
            super().data_received(data)

    @property
    def idle(self) -> bool:
        """True while no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def close_if_silent(self, now: float) -> None:
        """Close the connection if a request has begun and does not go on."""
        if self.idle:  # between two requests uvicorn has a timer of its own
            began = self.timeout_keep_alive_task is None
            silent = began and now - self.heard > limits.HEAD_S.value
        else:
            waits = self.cycle.more_body and not self.cycle.body  # of a body that the application reads
            silent = waits and now - self.heard > limits.BODY_S.value
        if silent and not self.transport.is_closing():
            self.transport.abort()


def nobody_else(connections: Iterable[object], client: object, part: str) -> bool:
    """Tell whether only the connection from `client` is used for paths that hold `part`, and not for the first time.

    A connection that has asked for nothing yet may be about to.
    """
    known = False
    for connection in connections:
        assert isinstance(connection, _Protocol)
        if connection.client == client:
            known = connection.requests > 1
        elif not connection.newest_path or part in connection.newest_path:
            return False
    return known


class Listener(uvicorn.Server):
    """uvicorn that says when it listens and stops at once instead of at the next tick."""

    def __init__(self, app: "ASGIApp", headers: Sequence[tuple[str, str]] = ()) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=2,
            timeout_keep_alive=limits.KEEP_S.value,
            loop="asyncio",
            http=_Protocol,
            ws="none",
            headers=list(headers),
            backlog=_ACCEPTED,
        )
        super().__init__(config)
        self.up = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._leave = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await self.on_tick(0)  # it sets the headers that every answer has, the first one too
        await super().startup(sockets)
        for sock in sockets or ():
            sock.listen(_QUEUE)  # asyncio made it as short as what it accepts at once
        self.up.set()

    async def main_loop(self) -> None:
        while not self.should_exit:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._leave.wait(), 0.5)
            await self.on_tick(10)
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, _Protocol):
                    connection.close_if_silent(now)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):  # a transport must not outlive its loop
            connection.transport.abort()
        await asyncio.sleep(0)

    def hang_up(self) -> bool:
        """Break every connection; says whether a request was being answered. From any thread."""
        return self._on_its_loop(self._hang_up())

    def settle(self, patience_s: float = 2.0) -> None:
        """Wait until the requests that are being answered have ended; from any thread."""
        self._on_its_loop(self._settle(patience_s))

    async def _hang_up(self) -> bool:
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        return bool(self.server_state.tasks)

    async def _settle(self, patience_s: float) -> bool:
        if running := list(self.server_state.tasks):
            await asyncio.wait(running, timeout=patience_s)
        return not self.server_state.tasks

    def _on_its_loop(self, what: Coroutine[None, None, bool]) -> bool:
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(what, self._loop).result()

    def stop(self) -> None:
        """Ask the server to end; from any thread."""
        self.should_exit = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._leave.set)
