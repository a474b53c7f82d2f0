"""Metadata on disk: one row per entity in an embedded SQLite database, reached through a SQLAlchemy URL.

Imported for a state folder only: SQLAlchemy is a third of an emulator's start. It opens and pools connections; rows
pass through the driver below it, in a fifth of the time. Each is checked when it is read (`emulator.state.sums`).
"""

import contextlib
import os
import sqlite3
from collections.abc import Generator, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
from sqlalchemy import create_engine, event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool

from emulator.core.errors import StorageFailed
from emulator.state import layout, wal
from emulator.state.store import Key, Row, Store, reading_alone
from emulator.state.sums import Siblings, Sums, checksum, damaged, parent_of

_UNREADABLE = (SQLAlchemyError, sqlite3.Error, ValueError, TypeError, AttributeError)
"""The errors of a damaged database: SQLite finds it malformed, or a value is none of its type."""


class Database(Store):
    """A store in a file: what `write` has stored survives `kill -9`, and when it was synced a power loss.

    One object at a time may write to a file: it knows by heart which rows there are.
    """

    def __init__(self, path: Path, *, read_only: str = "") -> None:
        """`path` is the database file. Raises StorageFailed.

        With a reason to be `read_only` the file is not touched: it is read into memory, its write-ahead log too. So is
        one on a disk that is too full to open it, and then `read_only` says so.
        """
        super().__init__()
        self.folder = path.parent
        self.read_only = read_only
        self._guarded: dict[Path, tuple[int, int]] = {}
        self._opened = contextlib.ExitStack()
        self._old = False
        self._known: Sums | None = None
        """The sums of all rows, None when they are to be read first."""
        try:
            if not read_only:
                try:
                    self._open(path)
                except (SQLAlchemyError, sqlite3.Error) as error:
                    if not _refused(error) or not path.stat().st_size:
                        raise
                    self.close()
                    self.read_only = reading_alone(path.parent, error.__cause__ or error)
            if self.read_only:
                self._open_copy(path)
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            self.close()
            raise _told(error) from error
        except BaseException:
            self.close()
            raise

    def _open(self, path: Path) -> None:
        if last := wal.last_commit(path):
            self._play_back(path, last)
        self._engine = self._kept(_engine(path, "NORMAL"))
        self._synced = self._kept(_engine(path, "FULL"))
        self._find_tables(path)
        self.guard(path)

    def _play_back(self, path: Path, last: int) -> None:
        """Let SQLite read the log that a death has left, and note whether it takes all of its commits."""
        with contextlib.closing(sqlite3.connect(path)) as driver:
            _, taken, _ = driver.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if taken < last:
            self.unread = (
                f"{path.name}-wal of {path.parent} is damaged: of its {last} pages only {max(taken, 0)} are read, and "
                "what was stored after them is lost. A power failure leaves that of what nobody was told is saved; "
                "else a disk has changed them. Look with `ftsim jobs` at what is there, and resume from it"
            )

    def _open_copy(self, path: Path) -> None:
        in_memory = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
        self._engine = self._synced = self._kept(in_memory)
        self._copy(path)
        self._find_tables(path)

    def _kept(self, engine: Engine) -> Engine:
        self._opened.callback(engine.dispose)
        return engine

    def _find_tables(self, path: Path) -> None:
        with self._engine.begin() as connection:
            driver = _driver(connection)
            self._old = layout.looks_old(driver, path)
            if not self._old:
                layout.make(driver)
                self._sums(driver)

    @property
    def bare(self) -> bool:
        """True for a database in which there is no row at all, as there is from the first start on."""
        return not self._old and not (self._known and self._known.of)

    def guard(self, path: Path) -> None:
        """Acknowledge nothing once this file is gone, or another one lies in its place."""
        self._guarded[path] = _identity(path)

    def _write(self, rows: Mapping[Key, Row], removed: Iterable[Key], *, afresh: bool, synced: bool) -> None:
        try:
            self._check_identity()
            with (self._synced if synced else self._engine).begin() as connection:
                driver = _driver(connection)
                driver.execute("BEGIN IMMEDIATE")
                if afresh:
                    layout.empty(driver)
                    self._known = Sums({}, Siblings())
                changed = _put(driver, self._sums(driver), rows, removed)
            self._old = self._old and not afresh
            self._sums(driver).take(changed)
            self._check_identity()
        except (SQLAlchemyError, sqlite3.Error) as error:
            self._known = None  # only the file knows what is in it now
            for engine in (self._synced, self._engine):
                engine.dispose()  # SQLite opens what it may not write for reading, and a connection stays as it is
            raise _told(error) from error

    def read(self, kind: str, key: str) -> dict[str, Any] | None:
        place = "key = ?" if self._old else "parent = ? AND key = ?"
        found = dict(self._rows(kind, place, (key,) if self._old else (parent_of(key), key)))
        if not found and not self._old:
            found = {name: body for name, body, _ in self._siblings(kind, parent_of(key))}
        return dict(orjson.loads(found[key])) if key in found else None

    def of(self, kind: str, parent: str) -> list[tuple[str, dict[str, Any]]]:
        return [(key, orjson.loads(body)) for key, body, _ in self._siblings(kind, parent)]

    def all(self, kind: str) -> Generator[tuple[str, dict[str, Any]]]:
        with _reading(), self._engine.connect() as connection:
            driver = _driver(connection)
            if self._old:
                yield from ((key, orjson.loads(body)) for key, body in driver.execute(layout.OLD_IN_ORDER, (kind,)))
                return
            found: dict[str, Siblings] = {}
            for key, body, checked in layout.whole(kind, driver.execute(f"{layout.ROWS} ORDER BY rowid", (kind,))):
                parent = parent_of(key)
                found[parent] = found.get(parent, Siblings()).beside(checked)
                yield key, orjson.loads(body)
            for parent, siblings in self.families(kind).items():
                _compare(kind, parent, found.pop(parent, Siblings()), siblings)
            for parent, siblings in found.items():
                _compare(kind, parent, siblings, Siblings())

    def families(self, kind: str) -> dict[str, Siblings]:
        with _reading(), self._engine.connect() as connection:
            return {parent: found for (of, parent), found in self._sums(_driver(connection)).of.items() if of == kind}

    def blobs(self, kind: str) -> set[str]:
        with _reading(), self._engine.connect() as connection:
            return set(chain.from_iterable(_driver(connection).execute(layout.POINTED, (kind,))))

    def look(self) -> str:
        """`trouble`, after a look at what lies in the folder; none any more when all is back in its place."""
        self.trouble = ""
        with contextlib.suppress(StorageFailed):
            self._check_identity()
        return self.trouble

    def back_up(self, path: Path) -> None:
        """Copy the whole database into a new file; raises StorageFailed."""
        target = sqlite3.connect(path)
        try:
            with self._engine.connect() as connection:
                _driver(connection).backup(target)
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise StorageFailed(f"{path} cannot be written: {error}") from error
        finally:
            target.close()

    def close(self) -> None:
        self._opened.close()

    def _sums(self, driver: sqlite3.Connection) -> Sums:
        if self._known is None:
            self._known = layout.read_sums(driver)
        return self._known

    def _rows(self, kind: str, where: str, values: tuple[str, ...]) -> list[tuple[str, bytes]]:
        with _reading(), self._engine.connect() as connection:
            driver = _driver(connection)
            if self._old:
                return driver.execute(f"{layout.OLD_ROWS} AND {where}", (kind, *values)).fetchall()
            found = driver.execute(f"{layout.ROWS} AND {where}", (kind, *values))
            return [(key, body) for key, body, _ in layout.whole(kind, found)]

    def _siblings(self, kind: str, parent: str) -> list[tuple[str, bytes, int]]:
        """All rows of a kind under a parent, oldest first; raises StorageFailed unless all are there, and whole."""
        with _reading(), self._engine.connect() as connection:
            driver = _driver(connection)
            expected = self._sums(driver).of.get((kind, parent), Siblings())
            rows = driver.execute(f"{layout.ROWS} AND parent = ? ORDER BY rowid", (kind, parent))
            found = list(layout.whole(kind, rows))
            siblings = Siblings()
            for _, _, checked in found:
                siblings = siblings.beside(checked)
            _compare(kind, parent, siblings, expected)
            return found

    def _check_identity(self) -> None:
        """Raises StorageFailed when what would be written to is not what others find under its name."""
        for path, identity in self._guarded.items():
            if _identity(path) != identity:
                self.trouble = (
                    f"{path.name} of the state folder {path.parent} is gone, or another one lies there: "
                    "nothing can be kept any more; stop this emulator and start it again"
                )
                raise StorageFailed(self.trouble)

    def _copy(self, path: Path) -> None:
        """Read a database whose folder nobody may write to; raises OSError when its log can be played back nowhere."""
        import tempfile

        log = path.with_name(f"{path.name}-wal")
        if not log.exists() or not log.stat().st_size:
            self._read(f"file:{quote(str(path))}?mode=ro&immutable=1")
            return
        with tempfile.TemporaryDirectory(prefix="ftsim-") as folder:
            wal.copy(path, Path(folder))
            self._read(f"file:{quote(folder)}/{path.name}")

    def _read(self, address: str) -> None:
        """Copy what a database holds into this one, which is in memory."""
        source = sqlite3.connect(address, uri=True)
        try:
            with self._engine.connect() as connection:
                source.backup(_driver(connection))
        finally:
            source.close()


def _put(driver: sqlite3.Connection, sums: Sums, rows: Mapping[Key, Row], removed: Iterable[Key]) -> Sums:
    """Change rows and their sums; returns the sums that are others now."""
    changed = Sums({}, sums.root)
    stored = []
    for kind, key in (*rows, *removed):
        family = (kind, parent_of(key))
        siblings = changed.of.get(family) or sums.of.get(family, Siblings())
        place, before = driver.execute(layout.FIND, (*family, key)).fetchone() or (None, 0)
        if place is not None:
            siblings = siblings.without(before)
        if (row := rows.get((kind, key))) is not None:
            now = checksum(kind, key, row.body)
            siblings = siblings.beside(now, row.moment)
            stored.append((place, *family, key, row.blob, now, row.body.decode()))
        elif place is not None:
            driver.execute(layout.REMOVE, (place,))
        changed.of[family] = siblings
    driver.executemany(layout.PUT, stored)
    for family, siblings in changed.of.items():
        if family in sums.of:
            changed.root = changed.root.without(sums.of[family].checksum(family))
        if siblings.rows:
            changed.root = changed.root.beside(siblings.checksum(family))
            driver.execute(layout.SUM, (*family, *siblings, siblings.checksum(family)))
        else:
            driver.execute(layout.UNSUM, family)
    driver.execute(layout.SUM, (*layout.ROOT, *changed.root, changed.root.checksum(layout.ROOT)))
    return changed


def _compare(kind: str, parent: str, found: Siblings, expected: Siblings) -> None:
    """Raises StorageFailed unless these are the rows that were stored."""
    if found[:2] != expected[:2]:
        raise damaged(f"of the {kind} rows of {parent[:200]}, {expected.rows} were stored and {found.rows} are there")


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """Whatever a damaged database brings about is one sentence."""
    try:
        yield
    except _UNREADABLE as error:
        raise damaged(str(getattr(error, "__cause__", None) or error)) from error


def _driver(connection: Connection) -> sqlite3.Connection:
    found: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
    return found


def _code(error: Exception) -> int:
    return int(getattr(error.__cause__ or error, "sqlite_errorcode", 0)) & 0xFF


def _refused(error: Exception) -> bool:
    """Say whether the disk refused to be written to: it is full, read-only or another user's."""
    return _code(error) in (
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
    )


def _told(error: Exception) -> StorageFailed:
    """Tell people about a database that cannot be written, or that is damaged."""
    cause = error.__cause__ or error
    if isinstance(error, OSError) or _refused(error) or _code(error) == sqlite3.SQLITE_BUSY:
        return StorageFailed(f"the state folder cannot be written: {cause}")
    return damaged(str(cause))


def _identity(path: Path) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0)
    return found.st_dev, found.st_ino


def _engine(path: Path, synchronous: str) -> Engine:
    """Connections with a write-ahead log; FULL waits for the disk at the end of a transaction, for earlier ones too."""

    def prepare(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute(f"PRAGMA synchronous={synchronous}")
        cursor.execute("PRAGMA cell_size_check=ON")
        cursor.close()

    engine = create_engine(f"sqlite:///{path}", connect_args={"check_same_thread": False})
    event.listen(engine, "connect", prepare)
    return engine
