"""Lifecycles, which change with time or with reads, seen without the platform."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from emulator.core.clock import Clock
from emulator.core.lifecycle import RETENTION_S, Life, Lifecycle, Pending, Progression


@dataclass
class Thing:
    """An entity of a world that has only what a life needs."""

    state: str = "NEW"
    pending: Pending | None = None
    running: bool = True
    last_activity: int = 0
    deleted: int | None = None


@dataclass
class Things:
    """A world in which changes are noted, and whether each was made inside `settling()`."""

    clock: Clock = field(default_factory=lambda: Clock(lambda: 0))
    inside: bool = False
    notes: list[str] = field(default_factory=list)

    @contextmanager
    def settling(self) -> Iterator[None]:
        self.inside = True
        yield
        self.inside = False

    def enter(self, thing: Thing, state: str) -> None:
        assert self.inside
        thing.state, thing.pending = state, None

    def remove(self, thing: Thing) -> None:
        assert self.inside
        self.notes.append("removed")

    def stop_idle(self, thing: Thing) -> None:
        thing.running = False
        self.notes.append("idle")

    def life(self, idle_s: float = 0.0) -> Life[Thing]:
        return Life(
            self,
            enter=self.enter,
            remove=self.remove,
            idle_s=lambda _: idle_s,
            stop_idle=self.stop_idle,
        )


@pytest.fixture
def things() -> Things:
    return Things()


def test_nothing_is_pending_where_a_change_is_made_at_once() -> None:
    assert Progression().to("READY", Clock(lambda: 7000)) is None
    assert Progression(after_reads=1).to("READY", Clock(lambda: 7000)) == Pending("READY", 1, 7)


def test_a_change_happens_after_its_time_and_is_stored_as_one(things: Things) -> None:
    lifecycle = Lifecycle(things, things.enter)
    thing = Thing(pending=Progression(after_s=5).to("READY", things.clock))
    assert lifecycle.settle(thing).state == "NEW"
    things.clock.advance(6)
    assert lifecycle.settle(thing).state == "READY"
    assert thing.pending is None


def test_only_a_look_counts_as_a_read_and_the_change_shows_at_the_one_after(things: Things) -> None:
    lifecycle = Lifecycle(things, things.enter)
    thing = Thing(pending=Progression(after_reads=2).to("READY", things.clock))
    assert [lifecycle.settle(thing).state for _ in range(5)] == ["NEW"] * 5
    assert [lifecycle.settle(thing, look=True).state for _ in range(3)] == ["NEW", "NEW", "READY"]


def test_what_nobody_talks_to_is_stopped_once(things: Things) -> None:
    life = things.life(idle_s=10)
    thing = Thing(last_activity=things.clock.now())
    assert life.settle(thing)
    things.clock.advance(11)
    assert life.settle(thing)
    assert life.settle(thing)
    assert things.notes == ["idle"]


def test_idle_time_begins_afresh_with_the_emulator(things: Things) -> None:
    things.clock.advance(100)
    thing, life = Thing(last_activity=0), things.life(idle_s=10)
    assert life.settle(thing)
    assert things.notes == []


def test_what_was_deleted_is_forgotten_when_its_retention_is_over(things: Things) -> None:
    life = things.life()
    life.on_purge(lambda _: things.notes.append("purged"))
    life.on_stop(lambda _: things.notes.append("stopped"))
    thing = Thing(deleted=things.clock.now(), running=False)
    life.stopped(thing)
    assert life.settle(thing)
    things.clock.advance(RETENTION_S + 1)
    assert not life.settle(thing)
    assert things.notes == ["stopped", "removed", "purged"]
