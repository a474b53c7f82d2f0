"""Metadata on a database server, which several processes may share: one row per entity, as in `metadata.sqlite`.

Imported with `--database` only. What is promised is the same: what `write` has stored survives the emulator, and when
it was synced a power loss of the server; each row is checked when it is read. PostgreSQL alone is spoken to, since
leases and waiting for its disk are said in its words.
"""

import contextlib
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any

import orjson
from sqlalchemy import Select, Table, bindparam, create_engine, delete, func, select, text, tuple_
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from emulator.core.clock import Clock
from emulator.core.errors import FailedPrecondition, InvalidArgument, PlatformError, StorageFailed
from emulator.state.accounts import LENGTH_S
from emulator.state.leases import Holder, Leases
from emulator.state.schema import ABOUT, ROWS, SUMS, upgrade
from emulator.state.store import Key, Row, Store
from emulator.state.sums import Family, Siblings, account_of, checksum, parent_of

DRIVER = "postgresql+psycopg"
EVERYTHING = ""
"""The lease of a process that has a database to itself."""
_UPGRADING = 0x66747369
"""The number of the lock under which a database is brought to this version's schema."""
_CONNECT_S = 10


def _upsert(table: Table, by: list[str], changed: tuple[str, ...]) -> Insert:
    put = insert(table)
    return put.on_conflict_do_update(index_elements=by, set_={name: put.excluded[name] for name in changed})


# Made once: to make a statement takes longer than to have it carried out.
_PUT_ROWS = _upsert(ROWS, ["kind", "key"], ("blob", "checksum", "body"))
_PUT_SUMS = _upsert(SUMS, ["kind", "parent"], ("count", "total", "latest", "checksum"))
_THERE = select(ROWS.c.kind, ROWS.c.key, ROWS.c.checksum).where(
    tuple_(ROWS.c.kind, ROWS.c.key).in_(bindparam("keys", expanding=True))
)
_ALL_SUMS = select(SUMS.c.kind, SUMS.c.parent, SUMS.c.count, SUMS.c.total, SUMS.c.latest, SUMS.c.checksum)
_SUMS_OF = _ALL_SUMS.where(tuple_(SUMS.c.kind, SUMS.c.parent).in_(bindparam("families", expanding=True)))


class ServerDatabase(Store):
    """A store on a database server, written to under leases.

    `own` is who this process is for others. Raises InvalidArgument for an address of another kind, FailedPrecondition
    for a server that could lose what it has acknowledged, StorageFailed for one that cannot be reached.
    """

    def __init__(self, address: str, own: Holder, *, lease_s: float = LENGTH_S, shared: bool = False) -> None:
        super().__init__()
        self.shared = shared
        self._url = database_url(address)
        self.name = self._url.render_as_string(hide_password=True)
        self._engine: Engine = create_engine(
            self._url, pool_size=4, max_overflow=8, connect_args={"connect_timeout": _CONNECT_S}
        )
        self._commit = "on"
        try:
            with self._told(), self._engine.begin() as connection:
                self._look_over(connection)
                connection.execute(select(func.pg_advisory_xact_lock(_UPGRADING)))
                upgrade(connection)
                identity = connection.execute(select(ABOUT.c.value).where(ABOUT.c.name == "identity")).scalar_one()
        except BaseException:
            self._engine.dispose()
            raise
        self.identity: str = identity
        """The name of this database and no other, which goes along into a dump of it."""
        self.leases = Leases(self._engine, own, length_s=lease_s)

    def _look_over(self, connection: Connection) -> None:
        """Raises FailedPrecondition for a server on which not all can be kept that is promised."""
        said = {
            name: str(connection.execute(text(f"SHOW {name}")).scalar())
            for name in ("fsync", "full_page_writes", "server_encoding", "synchronous_commit", "transaction_read_only")
        }
        for name in ("fsync", "full_page_writes"):
            if said[name] != "on":
                raise FailedPrecondition(
                    f"{self.name} runs with {name} = {said[name]}: what it acknowledges does not survive a power "
                    f"failure; set {name} = on"
                )
        if said["server_encoding"] != "UTF8":
            raise FailedPrecondition(f"{self.name} is of encoding {said['server_encoding']}: make one with UTF8")
        if said["transaction_read_only"] == "on":
            raise FailedPrecondition(f"{self.name} can only be read (a standby?): give the address of its primary")
        if said["synchronous_commit"] not in ("off", "local"):
            self._commit = said["synchronous_commit"]

    def begin(self) -> None:
        """Take the lease on the whole database, once whoever has it is gone; raises FailedPrecondition.

        A process that shares it gives it back when it has begun (`begun`), and takes those on accounts.
        """
        until = Clock.elapsed() + self.leases.length_s + 1
        while (holder := self._other()) is not None:
            if Clock.elapsed() > until:
                raise FailedPrecondition(
                    f"another emulator ({holder.name}) at {holder.address} uses {self.name}; stop it or use another"
                )
            threading.Event().wait(self.leases.length_s / 20)

    def _other(self) -> Holder | None:
        """The process that keeps this one from beginning, if there is one."""
        holder = self.leases.take(EVERYTHING)
        if holder != self.leases.own:
            return holder
        return None if self.shared else self.leases.take_from_the_dead()

    def begun(self) -> None:
        if self.shared:
            self.leases.release(EVERYTHING)

    @property
    def bare(self) -> bool:
        """True for a database without any row."""
        with self._told(), self._engine.connect() as connection:
            return connection.execute(select(ROWS.c.key).limit(1)).first() is None

    def _write(self, rows: Mapping[Key, Row], removed: Iterable[Key], *, afresh: bool, synced: bool) -> None:
        gone = list(removed)
        with self._told(), self._engine.begin() as connection:
            subjects = {account_of(key) for _, key in (*rows, *gone)} if self.shared else {EVERYTHING}
            self.leases.fence(connection, subjects, self._commit if synced else "off")
            if afresh:
                connection.execute(delete(ROWS))
                connection.execute(delete(SUMS))
            _put(connection, rows, gone)

    def read(self, kind: str, key: str) -> dict[str, Any] | None:
        found = self._whole(kind, _rows(kind).where(ROWS.c.key == key))
        if not found:
            found = [row for row in self._siblings(kind, parent_of(key)) if row[0] == key]
        return dict(orjson.loads(found[0][1])) if found else None

    def all(self, kind: str) -> Generator[tuple[str, dict[str, Any]]]:
        yield from self._complete(kind, _rows(kind), self.families(kind))

    def of_account(self, kind: str, account: str) -> list[tuple[str, dict[str, Any]]]:
        mine = _rows(kind).where(ROWS.c.account == account)
        return self._complete(kind, mine, self.families_of_account(kind, account))

    def _complete(
        self, kind: str, query: Select[str, str, int], expected: Mapping[str, Siblings]
    ) -> list[tuple[str, dict[str, Any]]]:
        """The rows of a query; raises StorageFailed unless these are all of the families, and whole."""
        rows = self._whole(kind, query)
        found: dict[str, Siblings] = {}
        for key, _, checked in rows:
            parent = parent_of(key)
            found[parent] = found.get(parent, Siblings()).beside(checked)
        for parent in found.keys() | expected.keys():
            self._compare(kind, parent, found.get(parent, Siblings()), expected.get(parent, Siblings()))
        return [(key, orjson.loads(body)) for key, body, _ in rows]

    def of(self, kind: str, parent: str) -> list[tuple[str, dict[str, Any]]]:
        return [(key, orjson.loads(body)) for key, body, _ in self._siblings(kind, parent)]

    def families(self, kind: str) -> dict[str, Siblings]:
        return self._families(kind, None)

    def families_of_account(self, kind: str, account: str) -> dict[str, Siblings]:
        return self._families(kind, account)

    def _families(self, kind: str, account: str | None) -> dict[str, Siblings]:
        with self._told(), self._engine.connect() as connection:
            return {parent: found for (of, parent), found in self._sums(connection, account).items() if of == kind}

    def blobs(self, kind: str) -> set[str]:
        with self._told(), self._engine.connect() as connection:
            pointed = select(ROWS.c.blob).where(ROWS.c.kind == kind, ROWS.c.blob != "")
            return {blob for (blob,) in connection.execute(pointed)}

    def look(self) -> str:
        """`trouble`, or that the server has not answered for as long as a lease lasts."""
        return self.trouble or (
            "" if self.leases.alive else f"{self.name} has not answered for {self.leases.length_s} s"
        )

    def close(self) -> None:
        self.leases.close()
        self._engine.dispose()

    def _whole(self, kind: str, query: Select[str, str, int]) -> list[tuple[str, bytes, int]]:
        """The rows of a query, each looked at; raises StorageFailed that names one that is not what was stored."""
        with self._told(), self._engine.connect() as connection:
            found = [(key, body.encode(), stored) for key, body, stored in connection.execute(query)]
        for key, body, stored in found:
            if checksum(kind, key, body) != stored:
                raise self._damaged(f"{kind} {key[:200]} is not what was stored")
        return found

    def _siblings(self, kind: str, parent: str) -> list[tuple[str, bytes, int]]:
        """All rows of a kind under a parent, oldest first; raises StorageFailed unless all are there, and whole."""
        rows = self._whole(kind, _rows(kind).where(ROWS.c.parent == parent))
        found = Siblings()
        for _, _, checked in rows:
            found = found.beside(checked)
        with self._told(), self._engine.connect() as connection:
            stored = _sums_of(connection, {(kind, parent)}).get((kind, parent), Siblings())
        self._compare(kind, parent, found, stored)
        return rows

    def _sums(self, connection: Connection, account: str | None) -> dict[Family, Siblings]:
        """All sums, or an account's, without the roots; raises StorageFailed when they are not what was stored."""
        found = _sums_of(connection, None, account)
        roots = {family: siblings for family, siblings in found.items() if not family[0]}
        expected: dict[Family, Siblings] = {}
        for family in found.keys() - roots.keys():
            root = ("", account_of(family[1]))
            expected[root] = expected.get(root, Siblings()).beside(found[family].checksum(family))
        if any(expected.get(root, Siblings())[:2] != roots.get(root, Siblings())[:2] for root in expected | roots):
            raise self._damaged("sums of rows are gone")
        return {family: siblings for family, siblings in found.items() if family[0]}

    def _compare(self, kind: str, parent: str, found: Siblings, expected: Siblings) -> None:
        """Raises StorageFailed unless these are the rows that were stored."""
        if found[:2] != expected[:2]:
            raise self._damaged(
                f"of the {kind} rows of {parent[:200]}, {expected.rows} were stored and {found.rows} are there"
            )

    def _damaged(self, what: str) -> StorageFailed:
        return StorageFailed(
            f"{self.name} is damaged ({what}): stop all emulators and restore a backup of the database, as of the "
            "newest moment that it has; what was saved since is still among the blobs"
        )

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Turn whatever a server brings about into one sentence."""
        try:
            yield
        except PlatformError:
            raise
        except SQLAlchemyError as error:
            raise StorageFailed(f"{self.name} cannot be used: {str(error.__cause__ or error).strip()}") from error


def database_url(address: str) -> URL:
    """The parsed address of a database server; raises InvalidArgument, in whose words no password stands."""
    try:
        url = make_url(address)
    except ArgumentError:
        raise InvalidArgument(f"a database is given as {DRIVER}://USER:PASSWORD@HOST/NAME") from None
    if url.drivername != DRIVER:
        raise InvalidArgument(
            f"the database is given as {DRIVER}://…, not {url.drivername}://…: without one the state is a folder"
        )
    return url


def _rows(kind: str) -> Select[str, str, int]:
    return select(ROWS.c.key, ROWS.c.body, ROWS.c.checksum).where(ROWS.c.kind == kind).order_by(ROWS.c.place)


def _sums_of(
    connection: Connection, families: Iterable[Family] | None, account: str | None = None
) -> dict[Family, Siblings]:
    """The sums of some families, of an account, or all; raises StorageFailed for one that is not what was stored."""
    query = _ALL_SUMS if account is None else _ALL_SUMS.where(SUMS.c.account == account)
    asked = {} if families is None else {"families": sorted(families)}
    found = {}
    for kind, parent, count, total, latest, stored in connection.execute(_SUMS_OF if asked else query, asked):
        found[kind, parent] = siblings = Siblings(count, total, latest)
        if siblings.checksum((kind, parent)) != stored:
            raise StorageFailed(f"the database is damaged (the sum of {kind} rows of {parent[:200]}): restore a backup")
    return found


def _put(connection: Connection, rows: Mapping[Key, Row], removed: list[Key]) -> None:
    """Change rows, the sums of their families, and the roots of their accounts."""
    keys = [*rows, *removed]
    if not keys:
        return
    before = {(kind, key): stored for kind, key, stored in connection.execute(_THERE, {"keys": keys})}
    families = {(kind, parent_of(key)) for kind, key in keys}
    roots = {("", account_of(key)) for _, key in keys}
    sums = _sums_of(connection, families | roots)
    changed = {family: sums.get(family, Siblings()) for family in families}
    stored = []
    for kind, key in keys:
        family = (kind, parent_of(key))
        if (kind, key) in before:
            changed[family] = changed[family].without(before[kind, key])
        if (row := rows.get((kind, key))) is not None:
            now = checksum(kind, key, row.body)
            changed[family] = changed[family].beside(now, row.moment)
            named = {"kind": kind, "key": key, "parent": family[1], "account": account_of(key)}
            stored.append({**named, "blob": row.blob, "checksum": now, "body": row.body.decode()})
    totals = {root: sums.get(root, Siblings()) for root in roots}
    for family, siblings in changed.items():
        root = ("", account_of(family[1]))
        if family in sums:
            totals[root] = totals[root].without(sums[family].checksum(family))
        if siblings.rows:
            totals[root] = totals[root].beside(siblings.checksum(family))
    if stored:
        connection.execute(_PUT_ROWS, stored)
    gone = [key for key in removed if key in before]
    if gone:
        connection.execute(delete(ROWS).where(tuple_(ROWS.c.kind, ROWS.c.key).in_(gone)))
    _put_sums(connection, changed | totals)


def _put_sums(connection: Connection, changed: Mapping[Family, Siblings]) -> None:
    kept = [
        {
            "kind": kind,
            "parent": parent,
            "account": account_of(parent) if kind else parent,
            "count": siblings.rows,
            "total": siblings.total,
            "latest": siblings.latest,
            "checksum": siblings.checksum((kind, parent)),
        }
        for (kind, parent), siblings in changed.items()
        if siblings.rows
    ]
    if kept:
        connection.execute(_PUT_SUMS, kept)
    if empty := [family for family, siblings in changed.items() if not siblings.rows]:
        connection.execute(delete(SUMS).where(tuple_(SUMS.c.kind, SUMS.c.parent).in_(empty)))
