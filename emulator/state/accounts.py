"""Accounts of a database: of one that several processes share each has those on which it holds a lease.

All that belongs to an account is one process's: its trainers, sessions, deployments and what was promised to its
clients. The first that is asked for an account takes it and reads its rows. It is not given up before the end: a
process that has lost a lease can no longer know what it holds, and answers nothing more.
"""

import threading
from collections.abc import Callable
from typing import Protocol

from emulator.core.clock import Clock
from emulator.core.errors import StorageFailed, Unavailable
from emulator.state.world import World

LENGTH_S = 5.0
"""Seconds for which a lease is given: so long after its holder's death nobody can have it."""
REMEMBER_S = 0.5
"""Seconds for which an account is taken to be where it was."""


class Has(Protocol):
    """A process that has an account."""

    @property
    def address(self) -> str: ...


class Leases(Protocol):
    """The leases of a process (`emulator.state.leases`)."""

    lost: Callable[[str], None]

    @property
    def own(self) -> Has: ...

    def take(self, subject: str) -> Has: ...

    def holds(self, subject: str) -> bool: ...


class Accounts:
    """The accounts that this process has, and where others are."""

    def __init__(self, world: World, leases: Leases, left: Callable[[], None] = lambda: None) -> None:
        """`left` is called once a lease is lost, and nothing is answered any more."""
        self._world = world
        self._leases = leases
        self._left = left
        self._here: set[str] = set()
        self._there: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()
        leases.lost = self._lost

    def here(self, account: str) -> bool:
        """Say whether this process has an account, without asking anybody; raises Unavailable when it cannot tell."""
        store = self._world.store
        if store.trouble:
            raise Unavailable(store.trouble)
        if store.shared and account not in self._here:
            return False
        if not self._leases.holds(account if store.shared else ""):
            raise Unavailable("the database has not answered for as long as a lease lasts: ask again")
        return True

    @property
    def unsure(self) -> bool:
        """True after a change that failed, until what is stored could be read."""
        return self._world.unsure

    def make_sure(self) -> None:
        """Read what a failed change has left; raises Unavailable."""
        try:
            self._world.make_sure()
        except StorageFailed as error:
            raise Unavailable(error.message) from None

    def place(self, account: str, *, afresh: bool = False) -> str:
        """The address of the process that has an account, "" when this one has it, or has taken it just now.

        With `afresh` nothing is taken from memory. Raises Unavailable, StorageFailed.
        """
        if self.here(account):
            return ""
        address, until = self._there.get(account, ("", 0.0))
        if not afresh and Clock.elapsed() < until:
            return address
        with self._lock:
            if account in self._here:
                return ""
            holder = self._leases.take(account)
            if holder is not self._leases.own:
                self._there[account] = holder.address, Clock.elapsed() + REMEMBER_S
                return holder.address
            self._world.adopt(account)
            self._here.add(account)
            self._there.pop(account, None)
            return ""

    def _lost(self, account: str) -> None:
        self._world.store.trouble = (
            f"another emulator has taken over {f'account {account!r}' if account else 'the database'}, since this one "
            "did not renew its lease in time: it answers nothing more; start it again"
        )
        self._left()
