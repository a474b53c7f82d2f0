"""Tables of metadata.sqlite: rows of every kind, and their sums; what older formats had instead.

There is one index, which this package keeps unique itself: each further one is a page more to write in every save.
"""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from emulator.state.sums import Family, Siblings, Sums, checksum, damaged

_MAKE = (
    "CREATE TABLE IF NOT EXISTS entities (kind TEXT NOT NULL, parent TEXT NOT NULL, key TEXT NOT NULL, "
    "blob TEXT NOT NULL, checksum INTEGER NOT NULL, body TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS places ON entities (kind, parent, key, blob)",
    "CREATE TABLE IF NOT EXISTS siblings (kind TEXT NOT NULL, parent TEXT NOT NULL, count INTEGER NOT NULL, "
    "total INTEGER NOT NULL, latest INTEGER NOT NULL, checksum INTEGER NOT NULL, PRIMARY KEY (kind, parent)) "
    "WITHOUT ROWID",
)
_COLUMNS = {
    "entities": ["kind", "parent", "key", "blob", "checksum", "body"],
    "siblings": ["kind", "parent", "count", "total", "latest", "checksum"],
}
_BEFORE = {"entities": ["kind", "key", "body"]}
"""Format 6 and older."""
_PAGE = 4096
ROOT: Family = ("", "")

FIND = "SELECT rowid, checksum FROM entities WHERE kind = ? AND parent = ? AND key = ?"
PUT = "INSERT OR REPLACE INTO entities (rowid, kind, parent, key, blob, checksum, body) VALUES (?, ?, ?, ?, ?, ?, ?)"
REMOVE = "DELETE FROM entities WHERE rowid = ?"
SUM = "INSERT OR REPLACE INTO siblings (kind, parent, count, total, latest, checksum) VALUES (?, ?, ?, ?, ?, ?)"
UNSUM = "DELETE FROM siblings WHERE kind = ? AND parent = ?"
OLD_ROWS = "SELECT key, CAST(body AS BLOB) FROM entities WHERE kind = ?"
OLD_IN_ORDER = f"{OLD_ROWS} ORDER BY rowid"
ROWS = "SELECT key, CAST(body AS BLOB), checksum FROM entities WHERE kind = ?"
EVERY = "SELECT rowid, kind, key, CAST(body AS BLOB), checksum FROM entities NOT INDEXED"
POINTED = "SELECT blob FROM entities WHERE kind = ? AND blob <> ''"


def looks_old(driver: sqlite3.Connection, file: Path | None) -> bool:
    """Say whether a database has the tables of an older format; raises StorageFailed when it has others than ours.

    One without any tables is taken for a new one, unless its `file` is longer than a new one is.
    """
    names = [str(name) for (name,) in driver.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    found = {name: [str(column[1]) for column in driver.execute(f'PRAGMA table_info("{name}")')] for name in names}
    if found == _BEFORE:
        return True
    if found != _COLUMNS and (found or (file is not None and file.stat().st_size > _PAGE)):
        raise damaged(f"its tables are {', '.join(sorted(names)) or 'gone'}")
    return False


def make(driver: sqlite3.Connection) -> None:
    """Make the tables of a new database."""
    for statement in _MAKE:
        driver.execute(statement)


def empty(driver: sqlite3.Connection) -> None:
    """Forget all rows, those of an older format's table too, within a transaction."""
    for name in (*_COLUMNS, *_BEFORE):
        driver.execute(f"DROP TABLE IF EXISTS {name}")
    make(driver)


def read_sums(driver: sqlite3.Connection) -> Sums:
    """The sums that are stored; raises StorageFailed when it is not what was stored."""
    found = Sums({}, Siblings())
    for kind, parent, count, total, latest, stored in driver.execute("SELECT * FROM siblings"):
        family, siblings = (str(kind), str(parent)), Siblings(count, total, latest)
        if siblings.checksum(family) != stored:
            raise damaged("a sum of rows is not what was stored")
        if family == ROOT:
            found.root = siblings
        else:
            found.of[family] = siblings
    nothing = not found.of and driver.execute("SELECT 1 FROM entities LIMIT 1").fetchone()
    if nothing or not found.whole():
        raise damaged("sums of rows are gone")
    return found


def whole(kind: str, rows: Iterator[tuple[str, bytes, int]]) -> Iterator[tuple[str, bytes, int]]:
    """The rows of a kind, each looked at; raises StorageFailed that names the one that is not what was stored."""
    for key, body, stored in rows:
        if checksum(kind, key, body) != stored:
            raise damaged(f"{kind} {key[:200]} is not what was stored")
        yield key, body, stored
