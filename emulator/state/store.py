"""Metadata on disk: one row per entity in an embedded SQLite database, reached through a SQLAlchemy URL."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Column, MetaData, String, Table, Text, create_engine, delete, event, literal_column, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool

from emulator.core.errors import StorageFailed

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

Key = tuple[str, str]


class Store:
    """Writes are one transaction each and survive `kill -9` of the process once `write` has returned."""

    def __init__(self, path: Path | None = None) -> None:
        """`path` is the database file; None keeps everything in memory."""
        if path is None:
            self._engine: Engine = create_engine(
                "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
            )
        else:
            self._engine = create_engine(f"sqlite:///{path}", connect_args={"check_same_thread": False})
            event.listen(self._engine, "connect", _durable)
        try:
            _metadata.create_all(self._engine)
        except SQLAlchemyError as error:
            raise StorageFailed(f"the state folder cannot be written: {error.__cause__ or error}") from error

    def write(self, changed: Mapping[Key, Mapping[str, Any]], removed: Iterable[Key] = ()) -> None:
        """Store and remove entities in one transaction; raises StorageFailed on a full disk or a read-only folder."""
        self._write(changed, removed)

    def replace(self, rows: Mapping[Key, Mapping[str, Any]]) -> None:
        """Forget everything else, in one transaction; raises StorageFailed, and then nothing changed."""
        self._write(rows, afresh=True)

    def _write(
        self, changed: Mapping[Key, Mapping[str, Any]], removed: Iterable[Key] = (), *, afresh: bool = False
    ) -> None:
        rows = [{"kind": kind, "key": key, "body": json.dumps(body)} for (kind, key), body in changed.items()]
        try:
            with self._engine.begin() as connection:
                if afresh:
                    connection.execute(delete(_entities))
                if rows:
                    connection.execute(_upsert, rows)
                for kind, key in removed:
                    connection.execute(delete(_entities).where(_entities.c.kind == kind, _entities.c.key == key))
        except SQLAlchemyError as error:
            raise StorageFailed(f"the state folder cannot be written: {error.__cause__ or error}") from error

    def read(self, kind: str, key: str) -> dict[str, Any] | None:
        with self._engine.connect() as connection:
            query = select(_entities.c.body).where(_entities.c.kind == kind, _entities.c.key == key)
            body = connection.execute(query).scalar_one_or_none()
        return None if body is None else dict(json.loads(body))

    def all(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every entity of a kind, in the order they were first written."""
        with self._engine.connect() as connection:
            query = select(_entities.c.key, _entities.c.body).where(_entities.c.kind == kind)
            for key, body in connection.execute(query.order_by(literal_column("rowid"))):
                yield key, json.loads(body)

    def clear(self) -> None:
        with self._engine.begin() as connection:
            connection.execute(delete(_entities))

    def close(self) -> None:
        self._engine.dispose()


def _durable(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()
