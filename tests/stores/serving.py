"""An emulator on servers as a process: `python -m tests.stores.serving DATABASE BLOBS [PORT]`."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from emulator.server import Emulator
from tests.doubles import DictBackend

KEY = "fw-ftsim-local"
LEASE_S = 1.0
ROOT = Path(__file__).parents[2]


class Process:
    """An emulator that is started, killed and started again, at one address."""

    def __init__(self, database: str, blobs: str) -> None:
        self._words = [database, blobs]
        self._process: subprocess.Popen[str] | None = None
        self.url = ""
        self.start()

    def start(self) -> None:
        """Start it, where it was before if it was, and wait until it answers."""
        port = self.url.rpartition(":")[2] or "0"
        command = [sys.executable, "-m", "tests.stores.serving", *self._words, port]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        assert self.url

    def kill(self) -> None:
        """End it without a word."""
        assert self._process is not None
        self._process.kill()
        self._process.communicate()

    def client(self) -> httpx.Client:
        """A client that knows the key."""
        return httpx.Client(base_url=self.url, headers={"X-Api-Key": KEY}, timeout=60)


@contextmanager
def serving(database: str, blobs: str) -> Iterator[Process]:
    """A process until the end."""
    process = Process(database, blobs)
    try:
        yield process
    finally:
        process.kill()


def emulator(database: str, blobs: str, scratch: Path, port: int = 0) -> Emulator:
    """An emulator over the light backend."""
    backend = DictBackend(scratch)
    return Emulator(backend, database=database, blobs=blobs, api_key=KEY, port=port, lease_s=LEASE_S)


if __name__ == "__main__":
    import tempfile

    with (
        tempfile.TemporaryDirectory() as folder,
        emulator(sys.argv[1], sys.argv[2], Path(folder), int(sys.argv[3])) as made,
    ):
        print(made.url, flush=True)
        threading.Event().wait()
