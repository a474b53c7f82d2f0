"""An emulator on servers as a process: `python -m tests.stores.serving DATABASE BLOBS PORT alone|shared`."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from emulator.server import Emulator
from emulator.state.homes import Servers
from tests.doubles import DictBackend

KEY = "fw-ftsim-local"
FURTHER = {f"fw-{account}": account for account in ("one", "two", "three")}
"""Keys of further accounts."""
LEASE_S = 1.0
ROOT = Path(__file__).parents[2]


class Process:
    """An emulator that is started, killed and started again, at one address."""

    def __init__(self, database: str, blobs: str, how: str = "alone") -> None:
        self._words = [database, blobs]
        self._how = how
        self._process: subprocess.Popen[str] | None = None
        self.url = ""
        self.back = threading.Event()
        """Set while it takes connections."""
        self.start()

    def start(self) -> None:
        """Start it, where it was before if it was, and wait until it answers."""
        port = self.url.rpartition(":")[2] or "0"
        command = [sys.executable, "-m", "tests.stores.serving", *self._words, port, self._how]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        assert self.url
        self.back.set()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def ended(self, within_s: float = 20.0) -> bool:
        """Say whether it ends by itself."""
        assert self._process is not None
        try:
            self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """End it without a word."""
        assert self._process is not None
        self.back.clear()
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

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


if __name__ == "__main__":
    import tempfile

    with (
        tempfile.TemporaryDirectory() as folder,
        emulator(sys.argv[1], sys.argv[2], Path(folder), int(sys.argv[3]), shared=sys.argv[4] == "shared") as made,
    ):
        print(made.url, flush=True)
        ended = threading.Event()
        made.on_lost = ended.set
        ended.wait()
