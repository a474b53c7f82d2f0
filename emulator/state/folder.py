"""A state folder: whose it is, who may use it, whether it can be written to.

ftsim-state          marks it as ours
metadata.sqlite      rows; blobs/ the files behind them; lost+found/ what no row points at
lock                 held by the emulator that uses it
key, admin-key       who may ask (see `emulator.http.guard`)
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from emulator.core.errors import FailedPrecondition, StorageFailed
from emulator.core.ids import secret
from emulator.state.blobs import LOST, RECORD, sync
from emulator.state.server_record import SERVER_FILE, announced
from emulator.state.store import Store, reading_alone
from emulator.state.tally import FILE as COUNTERS

MARK, METADATA, BLOBS, LOCK, KEY = "ftsim-state", "metadata.sqlite", "blobs", "lock", "key"
_MARK_TEXT = "This folder is the state of an ftsim emulator. What is in it, and what may go: docs/durability.md\n"
_OURS = {
    MARK, METADATA, f"{METADATA}-wal", f"{METADATA}-shm", BLOBS, LOCK, LOST, SERVER_FILE, "server.lock", "serving.lock",
    "server.log", "clients", "fast-forward", "journals", "snapshots", "hub", "base-models", "light-models", KEY,
    "trainer-secret", COUNTERS,
}  # fmt: skip
_WRITE_REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def private(path: Path) -> BinaryIO:
    """A new file for writing that its user alone may read; one of that name is replaced. Raises OSError."""
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def kept_secret(file: Path) -> str:
    """The secret in a file, made with it and readable by its user alone; raises OSError where none can be kept."""
    with contextlib.suppress(OSError):
        if found := file.read_text("ascii").strip():
            return found
    made = secret()
    with private(file) as opened:
        opened.write(f"{made}\n".encode())
    return made


@dataclass(frozen=True)
class StateFolder:
    """An open state folder; `read_only` is why nothing can be written to it, "" when all is well."""

    root: Path
    read_only: str = ""

    def key(self) -> str:
        """The folder's own API key, made with it and readable by its user alone."""
        try:
            return kept_secret(self.root / KEY)
        except OSError:  # a folder for reading alone
            return secret()

    def store(self) -> Store:
        """The metadata; raises StorageFailed, and FailedPrecondition when they are empty and blobs are there."""
        from emulator.state.database import Database

        store = Database(self.root / METADATA, read_only=self.read_only)
        if store.bare and (count := blobs_there(self.root)):
            store.close()
            raise _headless(self.root, count, f"no row in its {METADATA}")
        if not store.read_only:
            store.guard(self.root / LOCK)
        return store


@contextlib.contextmanager
def opened(root: Path, patience_s: float = 0.0) -> Iterator[StateFolder]:
    """The folder, ours alone until the end; made when there is none, private to its user.

    Waits `patience_s` for an emulator that is just ending. Raises FailedPrecondition for a folder that somebody uses,
    that is not ours, or whose metadata is gone while blobs are there; StorageFailed for one that can be neither made
    nor read.
    """
    read_only = ""
    with contextlib.ExitStack() as locks:
        try:
            _make(root)
            _refuse_foreign(root)
            locks.enter_context(locked(root, patience_s))
            _mark(root)
        except OSError as error:
            if error.errno not in _WRITE_REFUSED or not (root / METADATA).is_file():
                raise StorageFailed(f"the state folder {root} cannot be written: {error.strerror or error}") from error
            read_only = reading_alone(root, error.strerror)
        _refuse_headless(root)
        yield StateFolder(root, read_only)


def blobs_there(root: Path) -> int:
    """Count the blobs with a record that lie in a state folder."""
    return sum(1 for _ in (root / BLOBS).rglob(RECORD))


def running_at(root: Path) -> str:
    """` at <url>` of the emulator that announced itself in this state folder, or nothing."""
    record = announced(root)
    return f" (process {record.pid}) at {record.url}" if record else ""


def _make(root: Path) -> None:
    if not root.exists():
        root.mkdir(parents=True, mode=0o700)
        sync(root.parent)
    elif os.stat(root).st_uid == os.getuid():
        root.chmod(0o700)


def _refuse_foreign(root: Path) -> None:
    """Raises FailedPrecondition for a folder that holds what no emulator has put there."""
    if (root / MARK).exists() or (root / METADATA).exists():
        return
    there = sorted(path.name for path in root.iterdir() if path.name not in _OURS and not path.name.startswith("."))
    blobs = root / BLOBS
    if not there and blobs.is_dir() and not blobs_there(root):
        there = [f"{BLOBS}/{path.name}" for path in sorted(blobs.iterdir()) if not path.name.startswith(".")]
    if there:
        raise FailedPrecondition(
            f"{root} is no state folder of ftsim: it holds {', '.join(there[:3])}; give a new or an empty folder"
        )


def _refuse_headless(root: Path) -> None:
    """Raises FailedPrecondition when rows are gone whose blobs are there: a start would be a start from nothing."""
    file = root / METADATA
    if (file.is_file() and file.stat().st_size) or not (count := blobs_there(root)):
        return
    raise _headless(root, count, f"no {METADATA}")


def _headless(root: Path, count: int, what: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"{root} has {count} blobs and {what}: `ftsim state recover --state-dir {root}` makes the rows anew from the "
        "blobs; nothing was changed"
    )


@contextlib.contextmanager
def locked(root: Path, patience_s: float = 0.0) -> Iterator[None]:
    """The folder is ours alone meanwhile; raises FailedPrecondition when an emulator uses it for longer, OSError."""
    from filelock import FileLock, Timeout  # a tenth of a start, which an emulator in memory does without

    lock = FileLock(root / LOCK, timeout=patience_s, mode=0o600)
    try:
        lock.acquire()
    except Timeout:
        raise FailedPrecondition(
            f"another emulator{running_at(root)} uses the state folder {root}; stop it or use another folder"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _mark(root: Path) -> None:
    if (root / MARK).exists():
        return
    with (root / MARK).open("w", encoding="utf-8") as file:
        file.write(_MARK_TEXT)
        file.flush()
        os.fsync(file.fileno())
    sync(root)
