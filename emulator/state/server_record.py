"""`server.json`, by which one reaches the emulator that serves a state folder; written once the emulator answers."""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

SERVER_FILE = "server.json"
TELEMETRY = "TINKER_TELEMETRY"


@dataclass(frozen=True)
class ServerRecord:
    """Tells where an emulator listens, its process, and the key and account by which one may ask it."""

    url: str
    pid: int
    api_key: str
    account_id: str

    def variables(self) -> dict[str, str]:
        """The environment variables under which every client of WIRE 1.1 talks to this emulator."""
        return {
            "FIREWORKS_API_KEY": self.api_key,
            "FIREWORKS_ACCOUNT_ID": self.account_id,
            "FIREWORKS_BASE_URL": self.url,
            "FIREWORKS_TRAINER_GATEWAY_URL": self.url,
            "TINKER_BASE_URL": f"{self.url}/training/v1/serverless",
            "TINKER_API_KEY": f"tml-{self.api_key}",  # tinker's client refuses a key that does not begin so
            TELEMETRY: "0",  # a client that reports waits for the report at its close, 0.1 s at the least
        }


def announced(root: Path) -> ServerRecord | None:
    """The server announced last in a state folder; it may have died since."""
    try:
        return ServerRecord(**json.loads((root / SERVER_FILE).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def announce(root: Path, record: ServerRecord) -> None:
    """Tell clients where to go; call it once the server answers. The file holds a key and is its user's alone."""
    aside = root / f".server-{record.pid}"
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(record), file)
    os.replace(aside, root / SERVER_FILE)


def withdraw(root: Path, pid: int) -> None:
    """Take the announcement of server `pid` back; another server's stays."""
    record = announced(root)
    if record is not None and record.pid == pid:
        (root / SERVER_FILE).unlink(missing_ok=True)


@contextlib.contextmanager
def announcement(root: Path, record: ServerRecord) -> Iterator[None]:
    """Announce a server, and withdraw it at the end."""
    announce(root, record)
    try:
        yield
    finally:
        withdraw(root, record.pid)
