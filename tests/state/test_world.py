"""State: written through, all or nothing, the same after a restart."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from emulator.core.errors import FailedPrecondition, StorageFailed
from emulator.core.kinds import CheckpointKind
from emulator.core.lifecycle import Pending
from emulator.state.database import Database
from emulator.state.entities import Checkpoint, Job
from emulator.state.migrations import FORMAT
from emulator.state.table import Table
from emulator.state.world import World

OWNER = "accounts/a/rlorTrainerJobs/j"


def row(world: World, name: str, owner: str = OWNER) -> Checkpoint:
    now = world.clock.now()
    return Checkpoint(owner, name, now, now, CheckpointKind.TRAINING, "blob", "base", pending=Pending("visible", 2, 9))


def names(world: World, owner: str = OWNER) -> list[str]:
    return [checkpoint.id for checkpoint in world.checkpoints.of(owner)]


def test_what_was_put_is_there_after_a_restart(tmp_path: Path) -> None:
    world = World(store=Database(tmp_path / "db"), seed=3)
    with world.change():
        for name in ("b", "a", "c"):
            world.checkpoints.put(row(world, name))
        world.checkpoints.remove(f"{OWNER}/checkpoints/a")
    last = world.clock.now()
    first = world.ids.hex(8)
    world.store.close()
    again = World(store=Database(tmp_path / "db"), seed=3)
    assert names(again) == ["b", "c"]
    kept = again.checkpoints.get(f"{OWNER}/checkpoints/b")
    assert kept is not None
    assert (kept.kind, kept.pending) == (CheckpointKind.TRAINING, Pending("visible", 2, 9))
    assert again.ids.hex(8) != first
    assert again.clock.now() > last - 1_000_000
    again.store.close()


def test_a_change_that_fails_is_undone_as_a_whole() -> None:
    world = World()
    with world.change():
        for name in ("a", "b", "c"):
            world.checkpoints.put(row(world, name))

    def break_off() -> None:
        with world.change():
            changed = world.checkpoints.get(f"{OWNER}/checkpoints/b")
            assert changed is not None
            changed.step = 7
            world.checkpoints.put(changed)
            world.checkpoints.remove(f"{OWNER}/checkpoints/a")
            world.checkpoints.put(row(world, "d"))
            with world.change():
                world.checkpoints.put(row(world, "e"))
            raise ValueError

    with pytest.raises(ValueError):
        break_off()
    assert names(world) == ["a", "b", "c"]
    assert [checkpoint.step for checkpoint in world.checkpoints.of(OWNER)] == [0, 0, 0]


def test_a_store_that_cannot_write_keeps_memory_and_disk_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()

    def full(*_: object, **__: object) -> None:
        raise StorageFailed("no space left")

    def put() -> None:
        with world.change():
            world.checkpoints.put(row(world, "a"))

    with monkeypatch.context() as patch:
        patch.setattr(world.store, "write", full)
        with pytest.raises(StorageFailed):
            put()
    assert names(world) == []
    put()
    assert names(world) == ["a"]


def test_children_are_found_under_their_parent() -> None:
    world = World()
    with world.change():
        now = world.clock.now()
        world.jobs.put(Job(account="a", id="j", base_model="base", created=now, updated=now))
        world.checkpoints.put(row(world, "x"))
        world.checkpoints.put(row(world, "x", "accounts/a/rlorTrainerJobs/other"))
    assert [job.id for job in world.jobs.of("a")] == ["j"]
    assert world.jobs.of("b") == []
    assert names(world) == ["x"]


def test_one_seed_gives_the_same_ids_and_reset_gives_others() -> None:
    one, other = World(seed=5), World(seed=5)
    assert one.ids.hex(32) == other.ids.hex(32)
    assert World(seed=6).ids.base36(16) != World(seed=5).ids.base36(16)
    with one.change():
        one.checkpoints.put(row(one, "a"))
    one.quirks.set("rows.page_size_cap", 1)
    one.reset()
    assert names(one) == []
    assert one.quirks.active() == []


def test_a_store_of_another_format_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    old = Database(tmp_path / "db")
    old.write({("meta", "boot"): {"count": 3}})
    with pytest.raises(FailedPrecondition, match=f"the state is of format 1, this emulator reads {FORMAT}"):
        World(store=old)
    assert old.read("meta", "boot") == {"count": 3}
    old.close()


def test_rows_are_made_when_their_owner_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All is as it was before the restart, whichever way somebody asks first; a start makes none."""
    owners = [f"accounts/a/rlorTrainerJobs/j{number}" for number in range(3)]
    world = World(store=Database(tmp_path / "db"))
    with world.change():
        for number in range(12):
            world.checkpoints.put(row(world, f"s{number}", owners[number % 3]))
        old = world.checkpoints.get(f"{owners[1]}/checkpoints/s1")
        assert old is not None
        old.created = old.updated = world.clock.now()  # saved again: not the oldest any more
        world.checkpoints.put(old)
    before = {owner: sorted(names(world, owner), key=lambda name: name == "s1") for owner in owners}
    dumped = sorted(world.dump()["checkpoint"], key=lambda body: int(body["created"]))
    last = world.clock.now()
    world.store.close()
    made: list[str] = []
    decode = Table._decode

    def noted(table: Table[Any], body: dict[str, Any]) -> Any:
        made.append(body["id"])
        return decode(table, body)

    monkeypatch.setattr(Table, "_decode", noted)

    def again() -> World:
        made.clear()
        found = World(store=Database(tmp_path / "db"))
        assert made == []
        return found

    asked = again()
    assert len(asked.checkpoints) == 12
    assert set(asked.checkpoints.blobs()) == {"blob"}
    assert asked.checkpoints.count(owners[0]) == 4
    assert asked.clock.now() > last
    assert made == []
    assert f"{owners[0]}/checkpoints/s0" in asked.checkpoints
    assert f"{owners[0]}/checkpoints/s1" not in asked.checkpoints
    assert asked.checkpoints.count(owners[0]) == 4
    assert sorted(made) == ["s0", "s3", "s6", "s9"]
    assert {owner: names(asked, owner) for owner in owners} == before
    assert asked.dump()["checkpoint"] == dumped
    asked.store.close()
    iterated = again()
    assert iterated.checkpoints.get(f"{owners[1]}/checkpoints/s4") is not None
    assert [one.id for one in iterated.checkpoints] == [body["id"] for body in dumped]
    assert len(iterated.checkpoints) == len(made) == 12
    iterated.store.close()
    changed = again()
    with changed.change():
        changed.checkpoints.remove(f"{owners[2]}/checkpoints/s2")
        changed.checkpoints.put(row(changed, "new", owners[0]))
    assert names(changed, owners[2]) == before[owners[2]][1:]
    assert names(changed, owners[0]) == [*before[owners[0]], "new"]

    def break_off() -> None:
        with changed.change():
            changed.checkpoints.remove(f"{owners[1]}/checkpoints/s1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    assert names(changed, owners[1]) == before[owners[1]]
    changed.reset()
    assert len(changed.checkpoints) == 0
    assert names(changed, owners[1]) == []
    changed.store.close()


def test_whoever_asks_while_rows_are_made_gets_all_of_them(tmp_path: Path) -> None:
    world = World(store=Database(tmp_path / "db"))
    with world.change():
        for number in range(300):
            world.checkpoints.put(row(world, f"s{number}"))
    world.store.close()
    again = World(store=Database(tmp_path / "db"))
    with ThreadPoolExecutor(8) as asking:
        assert set(asking.map(lambda _: len(again.checkpoints.of(OWNER)), range(64))) == {300}
    again.store.close()
