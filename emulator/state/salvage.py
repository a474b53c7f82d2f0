"""Salvage of a damaged metadata.sqlite: the rows that are whole, as far as SQLite reaches them."""

import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from emulator.core.errors import StorageFailed
from emulator.state import layout
from emulator.state.database import Database
from emulator.state.migrations import BOOT, KINDS, Bodies, check_format
from emulator.state.store import Key, Store
from emulator.state.sums import checksum

_ORDERS = ("ASC", "DESC")
"""A row that cannot be read ends a search: there are more behind it from the other side."""


def read_all(store: Store) -> None:
    """Read every row; raises StorageFailed when one is damaged, FailedPrecondition for another format."""
    check_format(store.read(*BOOT) or {})
    for kind in (BOOT[0], *KINDS):
        for _ in store.all(kind):
            pass


def damage(file: Path) -> str:
    """Say what is wrong with metadata, "" when all can be read; raises FailedPrecondition for another format."""
    try:
        store = Database(file, read_only="this only looks")
    except StorageFailed as error:
        return error.message
    try:
        if store.bare:
            return f"{file.name} holds no row"
        read_all(store)
        return ""
    except StorageFailed as error:
        return error.message
    finally:
        store.close()


def whole_rows(file: Path) -> Bodies:
    """The rows that have the checksum that they were stored with; the file stays as it is. Raises OSError."""
    found: dict[int, tuple[Key, dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory(prefix="ftsim-") as folder:
        for name in (file.name, f"{file.name}-wal"):
            if (source := file.with_name(name)).exists():
                shutil.copyfile(source, Path(folder) / name)
        with contextlib.closing(sqlite3.connect(Path(folder) / file.name)) as driver:
            for order in _ORDERS:
                found |= {place: (key, orjson.loads(body)) for place, key, body in _readable(driver, order)}
    return {key: body for _, (key, body) in sorted(found.items())}


def _readable(driver: sqlite3.Connection, order: str) -> Iterator[tuple[int, Key, bytes]]:
    """The whole rows up to the first that SQLite cannot read."""
    with contextlib.suppress(sqlite3.Error):
        for place, kind, key, body, stored in driver.execute(f"{layout.EVERY} ORDER BY rowid {order}"):
            with contextlib.suppress(TypeError, ValueError, AttributeError):
                if checksum(kind, key, body) == stored:
                    yield place, (kind, key), body
