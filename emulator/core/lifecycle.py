"""Moves entities on: at once (the default), after so many reads, after so many seconds.

Nothing runs in the background. A change is carried out when somebody looks, so a test that advances the clock sees it
at its next read. It serves jobs, training sessions, deployments, models, operations, the visibility of checkpoints.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from emulator.core.clock import SECOND, Clock

RETENTION_S = 30 * 24 * 3600
"""How long a deleted job or session, and its rows, can still be found (FAILURES D17)."""


@dataclass(frozen=True)
class Progression:
    """Says how a change comes about: `after_reads` looks and `after_s` seconds must both have passed."""

    after_reads: int = 0
    after_s: float = 0.0

    @property
    def immediate(self) -> bool:
        return self.after_reads <= 0 and self.after_s <= 0

    def to(self, value: str, clock: Clock) -> "Pending | None":
        """The change to `value` that begins now; None when it is made at once."""
        return None if self.immediate else Pending.start(value, self, clock)


@dataclass
class Pending:
    """A change on its way: the field takes `value` once `reads` looks were answered and `Clock.ticks` shows `due`."""

    value: str
    reads: int = 0
    due: int = 0

    @classmethod
    def start(cls, value: str, progression: Progression, clock: Clock) -> "Pending":
        return cls(value, progression.after_reads, clock.ticks() + int(progression.after_s * SECOND))

    def passed(self, clock: Clock, *, look: bool) -> bool:
        """Say whether the change has happened by now; with `look` this is one of the reads that it outlasts."""
        if self.reads > 0:
            self.reads -= look
            return False
        return clock.reached(self.due)


class Changing(Protocol):
    """An entity with a change on its way, or none."""

    @property
    def pending(self) -> Pending | None: ...


class Running(Changing, Protocol):
    """An entity that runs, idles, and is kept for a while after it was deleted; times in microseconds."""

    @property
    def running(self) -> bool: ...
    @property
    def last_activity(self) -> int: ...
    @property
    def deleted(self) -> int | None: ...


C = TypeVar("C", bound=Changing)
R = TypeVar("R", bound=Running)
Listener = Callable[[R], None]
Change = Callable[[], AbstractContextManager[Any]]


class Timed(Protocol):
    """The world as a lifecycle sees it: its clock, and the change in which what time has brought is stored."""

    @property
    def clock(self) -> Clock: ...
    def settling(self) -> AbstractContextManager[Any]: ...


class Lifecycle(Generic[C]):
    """Carries out the changes that are on their way to the entities of one kind.

    `enter` puts an entity into a state, ends or replaces its pending change, and stores it; it runs inside a change,
    the world's own unless another is given.
    """

    def __init__(self, world: Timed, enter: Callable[[C, str], None], change: Change | None = None) -> None:
        self._clock = world.clock
        self._change = change or world.settling
        self._enter = enter

    def settle(self, entity: C, *, look: bool = False) -> C:
        """The entity after what time has brought, and with `look` after this read of it."""
        pending = entity.pending
        if pending is not None and pending.passed(self._clock, look=look):
            with self._change():
                self._enter(entity, pending.value)
        return entity


class Life(Generic[R]):
    """The whole life of what runs: its changes, the stop when nobody talks to it, the end of its retention.

    `idle_s` says after how many seconds without a request `stop_idle` is called (0 never); `remove` forgets an entity
    whose retention is over, inside a change. A restart begins idle time afresh, since nobody could talk meanwhile.
    """

    def __init__(
        self,
        world: Timed,
        *,
        enter: Callable[[R, str], None],
        remove: Callable[[R], None],
        idle_s: Callable[[R], float],
        stop_idle: Callable[[R], None],
    ) -> None:
        self._clock = world.clock
        self._change = world.settling
        self._changes = Lifecycle(world, enter)
        self._remove = remove
        self._idle_s = idle_s
        self._stop_idle = stop_idle
        self._started = world.clock.now()
        self._on_stop: list[Listener[R]] = []
        self._on_purge: list[Listener[R]] = []

    def on_stop(self, listener: Listener[R]) -> None:
        self._on_stop.append(listener)

    def on_purge(self, listener: Listener[R]) -> None:
        self._on_purge.append(listener)

    def stopped(self, entity: R) -> None:
        """Tell the listeners that it runs no more."""
        for listener in self._on_stop:
            listener(entity)

    def settle(self, entity: R, *, look: bool = False) -> bool:
        """Apply what time (and, with `look`, this read) has brought; False when the entity is forgotten by now."""
        if entity.deleted is not None and self._clock.since(entity.deleted) > RETENTION_S * SECOND:
            with self._change():
                self._remove(entity)
            for listener in self._on_purge:
                listener(entity)
            return False
        if entity.pending is not None:
            self._changes.settle(entity, look=look)
        idle = self._idle_s(entity)
        quiet_since = max(entity.last_activity, self._started)
        if idle and self._clock.since(quiet_since) > int(idle * SECOND) and entity.running:
            self._stop_idle(entity)
        return True
