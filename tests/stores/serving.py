"""An emulator on servers as a process, forked from one that has imported everything: a start is most of a kill."""

import multiprocessing
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import httpx

from emulator.server import Emulator
from emulator.state.homes import Servers
from tests.doubles import DictBackend

CONTEXT: ForkServerContext = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "tests.stores.serving",
        "emulator.http.app",
        "emulator.state.server_database",
        "alembic.command",
        "psycopg",
        "s3fs",
    ]
)
KEY = "fw-ftsim-local"
FURTHER = {f"fw-{account}": account for account in ("one", "two", "three")}
"""Keys of further accounts."""
LEASE_S = 1.0


class Process:
    """An emulator that is started, killed and started again, at one address."""

    def __init__(self, database: str, blobs: str, how: str = "alone") -> None:
        self._words = (database, blobs, how)
        self._process: ForkServerProcess | None = None
        self.url = ""
        self.back = threading.Event()
        """Set while it takes connections."""
        self.start()

    def start(self) -> None:
        """Start it, where it was before if it was, and wait until it answers."""
        port = int(self.url.rpartition(":")[2] or "0")
        here, there = CONTEXT.Pipe(duplex=False)
        self._process = CONTEXT.Process(target=_serve, args=(there, dict(os.environ), port, *self._words))
        self._process.start()
        there.close()
        with here:
            self.url = here.recv()
        self.back.set()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def ended(self, within_s: float = 20.0) -> bool:
        """Say whether it ends by itself."""
        assert self._process is not None
        self._process.join(within_s)
        return not self._process.is_alive()

    def kill(self) -> None:
        """End it without a word."""
        assert self._process is not None
        self.back.clear()
        self._process.kill()
        self._process.join()

    def client(self, key: str = KEY) -> httpx.Client:
        """A client with a key."""
        return httpx.Client(base_url=self.url, headers={"X-Api-Key": key}, timeout=60)


@contextmanager
def serving(database: str, blobs: str, how: str = "alone") -> Iterator[Process]:
    """A process until the end."""
    process = Process(database, blobs, how)
    try:
        yield process
    finally:
        process.kill()


def emulator(database: str, blobs: str, scratch: Path, port: int = 0, *, shared: bool = False) -> Emulator:
    """An emulator over the light backend."""
    backend = DictBackend(scratch)
    servers = Servers(database, blobs, lease_s=LEASE_S, shared=shared)
    return Emulator(backend, servers=servers, api_key=KEY, port=port, keys=FURTHER)


def _serve(
    told: "Connection[str, str]", environment: Mapping[str, str], port: int, database: str, blobs: str, how: str
) -> None:
    """Serve until a signal, or until another has taken over; the address is told once it answers."""
    os.environ.clear()
    os.environ.update(environment)
    with (
        tempfile.TemporaryDirectory() as folder,
        emulator(database, blobs, Path(folder), port, shared=how == "shared") as made,
    ):
        told.send(made.url)
        ended = threading.Event()
        made.on_lost = ended.set
        ended.wait()
