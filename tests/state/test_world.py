"""State: written through, all or nothing, the same after a restart."""

from pathlib import Path

import pytest

from emulator.core.errors import FailedPrecondition, StorageFailed
from emulator.core.kinds import CheckpointKind
from emulator.core.lifecycle import Pending
from emulator.state.database import Database
from emulator.state.entities import Checkpoint, Job
from emulator.state.migrations import FORMAT
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
