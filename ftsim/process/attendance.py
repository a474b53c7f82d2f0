"""Notes who serves a state folder and who uses it: one server process, any number of client programs.

    <state>/server.json      the server that answers now (`emulator.state.server_record`)
    <state>/lock             held by the server itself (`emulator.state.folder`)
    <state>/server.lock      held while somebody starts, joins or stops a server
    <state>/clients/<name>   one file per client program, locked by it for as long as it lives

A client's lock is a kernel lock on an open file that the program inherits, so it goes with the program however it
ends, `kill -9` included, and a process id that is used again cannot be taken for it. POSIX only.
"""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from emulator.state import server_record
from emulator.state.server_record import SERVER_FILE, ServerRecord
from ftsim.process.stop import Stop

STATE_DIR = "FTSIM_STATE_DIR"


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
        self.server_file = state_dir / SERVER_FILE
        self.clients_dir = state_dir / "clients"
        self.clients_dir.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def exclusively(self) -> Iterator[None]:
        """Hold `server.lock`: nobody else starts, joins or stops a server meanwhile."""
        with (self.state_dir / "server.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def server(self) -> ServerRecord | None:
        """The server announced last; it may have died since."""
        return server_record.announced(self.state_dir)

    def join(self) -> Client:
        """Register this process (and whoever inherits the descriptor); call it inside `exclusively`."""
        descriptor, name = tempfile.mkstemp(prefix=f"{os.getpid()}-", dir=self.clients_dir)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return Client(Path(name), descriptor)

    def present(self) -> int:
        """Number of clients alive; registrations of the dead are removed. Call it inside `exclusively`."""
        return sum(map(_alive, self.clients_dir.iterdir()))

    def serve_until_deserted(self, pid: int, stop: Stop, *, grace: float = 3.0, poll: float = 0.25) -> None:
        """Return when no client was there for `grace` seconds (announcement withdrawn) or `stop` is set."""
        empty = 0
        while not stop.wait(poll):
            with self.exclusively():
                empty = 0 if self.present() else empty + 1
                if empty * poll >= grace:
                    server_record.withdraw(self.state_dir, pid)
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
    """FTSIM_STATE_DIR, else the folder where this system keeps a user's state.

    `ftsim` under XDG_STATE_HOME (~/.local/state) was the folder on every system once: where it is there, it stays.
    """
    if given := os.environ.get(STATE_DIR):
        return Path(given)
    earlier = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "ftsim"
    if earlier.is_dir():
        return earlier
    from platformdirs import user_state_path

    return user_state_path("ftsim", appauthor=False)
