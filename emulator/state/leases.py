"""Leases: which process may write what in a shared database, and until when.

A lease is a row with a holder, a token and an expiry by the database's own clock; a heartbeat renews it. Whoever finds
it expired takes it and raises the token. Each transaction looks for the token that its process was given, and keeps
the row from being taken until it is committed: a holder that was thought dead and goes on can store nothing more.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import bindparam, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from emulator.core.clock import Clock
from emulator.core.errors import StorageFailed
from emulator.core.own_warnings import apart
from emulator.state.accounts import LENGTH_S
from emulator.state.schema import LEASES

_HELD = tuple_(LEASES.c.subject, LEASES.c.token).in_(bindparam("held", expanding=True))
_FENCE = (
    select(LEASES.c.subject, func.set_config("synchronous_commit", bindparam("commit"), True))
    .where(_HELD)
    .order_by(LEASES.c.subject)
    .with_for_update(read=True)
)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Holder:
    """A process that holds a lease: its name, and the address at which other processes reach it."""

    name: str
    address: str


class Leases:
    """The leases of one process, renewed until `close` gives them back.

    `lost` is called, on the heartbeat's thread, for each that somebody else has taken or that could not be renewed in
    time.
    """

    def __init__(self, engine: Engine, own: Holder, *, length_s: float = LENGTH_S) -> None:
        self._engine = engine
        self.own = own
        self.length_s = length_s
        self._tokens: dict[str, int] = {}
        self._until: dict[str, float] = {}
        self._heard = Clock.elapsed()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self.lost: Callable[[str], None] = lambda subject: None
        self._heart = threading.Thread(target=apart(self._beat), name="leases", daemon=True)
        self._heart.start()

    def take(self, subject: str) -> Holder:
        """The holder from now on: this process where the lease was free, else who has it. Raises StorageFailed."""
        begun = Clock.elapsed()
        free = (LEASES.c.expires < func.clock_timestamp()) | (LEASES.c.holder == "")
        mine = {"holder": self.own.name, "address": self.own.address, "expires": self._expiry()}
        claim = (
            insert(LEASES)
            .values(subject=subject, token=1, **mine)
            .on_conflict_do_update(index_elements=["subject"], set_={**mine, "token": LEASES.c.token + 1}, where=free)
            .returning(LEASES.c.token)
        )
        try:
            with self._engine.begin() as connection:
                token = connection.execute(claim).scalar()
                if token is None:
                    found = connection.execute(
                        select(LEASES.c.holder, LEASES.c.address).where(LEASES.c.subject == subject)
                    ).one()
                    return Holder(*found)
        except SQLAlchemyError as error:
            raise StorageFailed(f"the database does not answer: {error.__cause__ or error}") from error
        with self._lock:
            self._tokens[subject], self._until[subject] = int(token), begun + self.length_s
        return self.own

    def take_from_the_dead(self) -> Holder | None:
        """Make every lease but this process's own void, unless one is alive: its holder. Raises StorageFailed."""
        others = LEASES.c.subject.not_in(list(self._tokens))
        alive = others & (LEASES.c.expires >= func.clock_timestamp()) & (LEASES.c.holder != "")
        try:
            with self._engine.begin() as connection:
                if found := connection.execute(select(LEASES.c.holder, LEASES.c.address).where(alive)).first():
                    return Holder(*found)
                connection.execute(update(LEASES).where(others).values(holder="", token=LEASES.c.token + 1))
        except SQLAlchemyError as error:
            raise StorageFailed(f"the database does not answer: {error.__cause__ or error}") from error
        return None

    def holds(self, subject: str) -> bool:
        """Say whether a lease is this process's own, and nobody else can have taken it yet."""
        until = self._until.get(subject)
        return until is not None and Clock.elapsed() < until

    @property
    def alive(self) -> bool:
        """Say whether the database has answered within the time of a lease."""
        return Clock.elapsed() < self._heard + self.length_s

    def fence(self, connection: Connection, subjects: Iterable[str], commit: str) -> None:
        """Keep leases until this transaction's end; raises StorageFailed for one that is another's now.

        `commit` is what PostgreSQL is to wait for at the end, its setting `synchronous_commit`.
        """
        asked = [(subject, self._tokens.get(subject, -1)) for subject in sorted(set(subjects))]
        kept = connection.execute(_FENCE, {"held": asked, "commit": commit}).all()
        if len(kept) < len(asked):
            held = {subject for subject, _ in kept}
            for gone in [subject for subject, _ in asked if subject not in held]:
                self._forget(gone)
            raise StorageFailed("another emulator has taken over what this request is about: ask again, and it answers")

    def release(self, subject: str) -> None:
        """Let anybody have it at once."""
        with self._lock:
            token = self._tokens.pop(subject, None)
            self._until.pop(subject, None)
        if token is not None:
            with suppress(SQLAlchemyError), self._engine.begin() as connection:
                freed = update(LEASES).where(LEASES.c.subject == subject, LEASES.c.token == token)
                connection.execute(freed.values(holder="", address=""))

    def close(self) -> None:
        """Give all of them back."""
        self._ended.set()
        self._heart.join(self.length_s)
        for subject in list(self._tokens):
            self.release(subject)

    def _expiry(self) -> object:
        return func.clock_timestamp() + timedelta(seconds=self.length_s)

    def _forget(self, subject: str) -> None:
        with self._lock:
            self._until.pop(subject, None)
            known = self._tokens.pop(subject, None)
        if known is not None:
            self.lost(subject)

    def _beat(self) -> None:
        while not self._ended.wait(self.length_s / 4):
            with self._lock:
                tokens = dict(self._tokens)
            begun = Clock.elapsed()
            try:
                renewed = self._renew(tokens)
            except SQLAlchemyError as error:
                _log.warning("ftsim: the leases cannot be renewed: %s", error.__cause__ or error)
                continue
            self._heard = begun
            with self._lock:
                for subject in renewed & self._tokens.keys():
                    self._until[subject] = begun + self.length_s
            for subject in tokens.keys() - renewed:
                self._forget(subject)

    def _renew(self, tokens: dict[str, int]) -> set[str]:
        """Prolong these; returns the subjects that are still this process's own."""
        if not tokens:
            with self._engine.connect() as connection:
                connection.execute(select(1))
            return set()
        renew = update(LEASES).where(_HELD).values(expires=self._expiry()).returning(LEASES.c.subject)
        with self._engine.begin() as connection:
            return {subject for (subject,) in connection.execute(renew, {"held": list(tokens.items())})}
