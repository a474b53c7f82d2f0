"""The socket that the emulator listens on, and the uvicorn server that answers there."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from emulator.core.errors import Unavailable

if TYPE_CHECKING:
    from starlette.types import ASGIApp


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
        sock.listen(1024)
    except (OSError, OverflowError) as error:  # a port that is none overflows
        sock.close()
        raise Unavailable(f"cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}") from error
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return sock, f"http://{f'[{shown}]' if ':' in shown else shown}:{sock.getsockname()[1]}"


class _Protocol(HttpToolsProtocol):
    """Never logs a request, whatever the program around does to uvicorn's loggers: queries may carry keys."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.access_log = False


class Listener(uvicorn.Server):
    """uvicorn that says when it listens and stops at once instead of at the next tick."""

    def __init__(self, app: "ASGIApp", headers: Sequence[tuple[str, str]] = ()) -> None:
        config = uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="off", server_header=False,
            timeout_graceful_shutdown=2, timeout_keep_alive=75, loop="asyncio", http=_Protocol, ws="none",
            headers=list(headers),
        )  # fmt: skip
        super().__init__(config)
        self.up = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._leave = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await self.on_tick(0)  # it sets the headers that every answer has, the first one too
        await super().startup(sockets)
        self.up.set()

    async def main_loop(self) -> None:
        while not self.should_exit:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._leave.wait(), 0.5)
            await self.on_tick(10)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):  # a transport must not outlive its loop
            connection.transport.abort()
        await asyncio.sleep(0)

    def stop(self) -> None:
        """Ask the server to end; from any thread."""
        self.should_exit = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._leave.set)
