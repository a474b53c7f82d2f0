"""Who serves a state folder and who uses it: one server process, any number of client programs.

    <state>/server.json      url, pid, api_key and account of the server that answers now
    <state>/server.lock      held while somebody starts, joins or stops a server
    <state>/serving.lock     held by the server process itself, from before it opens the state until it has ended
    <state>/clients/<name>   one file per client program, locked by it for as long as it lives

A client's lock is a kernel lock on an open file that the program inherits, so it goes with the program however it
ends, `kill -9` included, and a process id that is used again cannot be taken for it. POSIX only.
"""

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event

STATE_DIR = "FTSIM_STATE_DIR"


class OccupiedError(Exception):
    """Another server process holds the state folder."""


@dataclass(frozen=True)
class ServerRecord:
    """How to reach the server of a state folder."""

    url: str
    pid: int
    api_key: str
    account_id: str


@dataclass(frozen=True)
class Client:
    """A registered client program; the registration lasts as long as any process holds `descriptor` open."""

    file: Path
    descriptor: int

    def leave(self) -> None:
        """Close this process's hold on the registration."""
        os.close(self.descriptor)


class Attendance:
    """The files above, for one state folder."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.server_file = state_dir / "server.json"
        self.clients_dir = state_dir / "clients"
        self.clients_dir.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def exclusively(self) -> Iterator[None]:
        """Hold `server.lock`: nobody else starts, joins or stops a server meanwhile."""
        with (self.state_dir / "server.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def occupied(self, *, patience: float = 10.0, poll: float = 0.05) -> Iterator[None]:
        """Hold the state folder as its one server, waiting `patience` seconds for one that is just ending."""
        with (self.state_dir / "serving.lock").open("w") as lock:
            pause = Event()
            for _ in range(int(patience / poll) + 1):
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    pause.wait(poll)
            else:
                record = self.server()
                who = f"process {record.pid} at {record.url}" if record else "another process"
                raise OccupiedError(f"ftsim: {who} already serves {self.state_dir}; stop it or use another folder")
            yield

    def server(self) -> ServerRecord | None:
        """The server announced last; it may have died since."""
        try:
            return ServerRecord(**json.loads(self.server_file.read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def announce(self, record: ServerRecord) -> None:
        """Tell clients where to go; call it once the server answers."""
        aside = self.server_file.with_name(f".server-{record.pid}")
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(record), file)
        os.replace(aside, self.server_file)

    def withdraw(self, pid: int) -> None:
        """Take the announcement of server `pid` back; another server's stays."""
        record = self.server()
        if record is not None and record.pid == pid:
            self.server_file.unlink(missing_ok=True)

    def join(self) -> Client:
        """Register this process (and whoever inherits the descriptor); call it inside `exclusively`."""
        descriptor, name = tempfile.mkstemp(prefix=f"{os.getpid()}-", dir=self.clients_dir)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return Client(Path(name), descriptor)

    def present(self) -> int:
        """Number of clients alive; registrations of the dead are removed. Call it inside `exclusively`."""
        return sum(map(_alive, self.clients_dir.iterdir()))

    def serve_until_deserted(self, pid: int, stop: Event, *, grace: float = 3.0, poll: float = 0.25) -> None:
        """Return when no client was there for `grace` seconds (announcement withdrawn) or `stop` is set."""
        empty = 0
        while not stop.wait(poll):
            with self.exclusively():
                empty = 0 if self.present() else empty + 1
                if empty * poll >= grace:
                    self.withdraw(pid)
                    return


def _alive(file: Path) -> bool:
    try:
        with file.open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.unlink(missing_ok=True)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    return False


def default_state_dir() -> Path:
    """FTSIM_STATE_DIR, else a folder of the user's (XDG)."""
    if given := os.environ.get(STATE_DIR):
        return Path(given)
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "ftsim"
