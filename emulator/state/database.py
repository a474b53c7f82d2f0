"""Metadata on disk: one row per entity in an embedded SQLite database, reached through a SQLAlchemy URL.

Imported for a state folder only: SQLAlchemy is a third of an emulator's start.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
from sqlalchemy import Column, MetaData, String, Table, Text, create_engine, delete, event, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool

from emulator.core.errors import StorageFailed
from emulator.state.store import Key, Store, reading_alone

_metadata = MetaData()
_entities = Table(
    "entities",
    _metadata,
    Column("kind", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("body", Text, nullable=False),
)
_insert = insert(_entities)
_upsert = _insert.on_conflict_do_update(index_elements=["kind", "key"], set_={"body": _insert.excluded.body})
_ALL = "SELECT key, body FROM entities WHERE kind = ?"
_IN_ORDER = f"{_ALL} ORDER BY rowid"


class Database(Store):
    """A store in a file: what `write` has stored survives `kill -9`, and when it was synced a power loss."""

    def __init__(self, path: Path, *, read_only: str = "") -> None:
        """`path` is the database file. Raises StorageFailed.

        With a reason to be `read_only` the file is not touched: it is read into memory, its write-ahead log too. So is
        one on a disk that is too full to open it, and then `read_only` says so.
        """
        super().__init__()
        self.read_only = read_only
        self._guarded: dict[Path, tuple[int, int]] = {}
        try:
            if not read_only:
                try:
                    self._open(path)
                except SQLAlchemyError as error:
                    if not _refused(error) or not path.stat().st_size:
                        raise
                    self.close()
                    self.read_only = reading_alone(path.parent, error.__cause__)
            if self.read_only:
                self._open_copy(path)
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            raise StorageFailed(
                f"the state folder cannot be written: {getattr(error, '__cause__', None) or error}"
            ) from error

    def _open(self, path: Path) -> None:
        self._engine: Engine = _engine(path, "NORMAL")
        self._synced = _engine(path, "FULL")
        _metadata.create_all(self._engine)
        self.guard(path)

    def _open_copy(self, path: Path) -> None:
        self._engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
        self._synced = self._engine
        self._copy(path)
        _metadata.create_all(self._engine)

    def guard(self, path: Path) -> None:
        """Acknowledge nothing once this file is gone, or another one lies in its place."""
        self._guarded[path] = _identity(path)

    def _write(self, bodies: Mapping[Key, bytes], removed: Iterable[Key], *, afresh: bool, synced: bool) -> None:
        rows = [{"kind": kind, "key": key, "body": body.decode()} for (kind, key), body in bodies.items()]
        try:
            self._check_identity()
            with (self._synced if synced else self._engine).begin() as connection:
                if afresh:
                    connection.execute(delete(_entities))
                if rows:
                    connection.execute(_upsert, rows)
                for kind, key in removed:
                    connection.execute(delete(_entities).where(_entities.c.kind == kind, _entities.c.key == key))
            self._check_identity()
        except SQLAlchemyError as error:
            for engine in (self._synced, self._engine):
                engine.dispose()  # SQLite opens what it may not write for reading, and a connection stays as it is
            raise StorageFailed(f"the state folder cannot be written: {error.__cause__ or error}") from error

    def read(self, kind: str, key: str) -> dict[str, Any] | None:
        try:
            with self._engine.connect() as connection:
                query = select(_entities.c.body).where(_entities.c.kind == kind, _entities.c.key == key)
                body = connection.execute(query).scalar_one_or_none()
            return None if body is None else dict(orjson.loads(body))
        except (SQLAlchemyError, ValueError) as error:
            raise unreadable(error) from error

    def all(self, kind: str, *, ordered: bool = True) -> Iterator[tuple[str, dict[str, Any]]]:
        try:
            with self._engine.connect() as connection:
                driver: Any = connection.connection.driver_connection  # a start reads all rows: twice as fast so
                for key, body in driver.execute(_IN_ORDER if ordered else _ALL, (kind,)):
                    yield key, orjson.loads(body)
        except (SQLAlchemyError, sqlite3.Error, ValueError) as error:
            raise unreadable(error) from error

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
                source: Any = connection.connection.driver_connection
                source.backup(target)
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise StorageFailed(f"{path} cannot be written: {error}") from error
        finally:
            target.close()

    def close(self) -> None:
        self._engine.dispose()
        self._synced.dispose()

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
        import shutil
        import tempfile

        log = path.with_name(f"{path.name}-wal")
        if not log.exists() or not log.stat().st_size:
            self._read(f"file:{quote(str(path))}?mode=ro&immutable=1")
            return
        with tempfile.TemporaryDirectory(prefix="ftsim-") as folder:
            for source in (path, log):
                shutil.copyfile(source, Path(folder) / source.name)
            self._read(f"file:{quote(folder)}/{path.name}")

    def _read(self, address: str) -> None:
        """Copy what a database holds into this one, which is in memory."""
        source = sqlite3.connect(address, uri=True)
        try:
            with self._engine.connect() as connection:
                target: Any = connection.connection.driver_connection
                source.backup(target)
        finally:
            source.close()


def _refused(error: SQLAlchemyError) -> bool:
    """Say whether the disk refused to be written to: it is full, read-only or another user's."""
    code = getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF
    return code in (
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
    )


def unreadable(error: Exception) -> StorageFailed:
    """Tell people about a database that cannot be read."""
    cause = getattr(error, "__cause__", None) or error
    return StorageFailed(
        f"the state folder's metadata.sqlite is damaged ({cause}): move it away, and `ftsim state recover` makes a new "
        "one from the blobs"
    )


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
        cursor.close()

    engine = create_engine(f"sqlite:///{path}", connect_args={"check_same_thread": False})
    event.listen(engine, "connect", prepare)
    return engine
