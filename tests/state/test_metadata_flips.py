"""One flipped bit anywhere in metadata.sqlite: everything reads as it was stored, or a sentence says what to do."""

import random
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from emulator.core.errors import FailedPrecondition, StorageFailed
from emulator.core.kinds import CheckpointKind
from emulator.state import upkeep
from emulator.state.blobs import Blobs
from emulator.state.database import Database
from emulator.state.entities import Checkpoint, Deployment, Job, Model
from emulator.state.folder import StateFolder
from emulator.state.records import record_for
from emulator.state.world import World
from ftsim.cli.main import app

ACCOUNT = "accounts/local"
Dump = dict[str, list[dict[str, Any]]]


def fill(root: Path, jobs: int, rows: int) -> None:
    """Make a folder with rows on many pages, and some that were deleted; few of them have a blob."""
    root.mkdir()
    blobs, world = Blobs(root / "blobs", durable=False), World(store=Database(root / "metadata.sqlite"))
    now = world.clock.now()
    for number in range(jobs):
        with world.change():
            job = world.jobs.put(Job(account="local", id=f"j{number}", base_model="m", created=now, updated=now))
            for step in range(rows):
                saved = Checkpoint(job.name, f"step-{step}", now + step, now + step, CheckpointKind.TRAINING, "", "m")
                if step == 0:
                    staged = blobs.stage()
                    (staged / "file").write_bytes(b"weights")
                    saved.blob, saved.digests = f"local/j{number}/step-{step}~1", blobs.digest(staged)
                    blobs.commit(staged, saved.blob, saved.digests, record_for("checkpoint", saved, ("job", job)))
                world.checkpoints.put(saved)
            world.models.put(Model("local", f"m{number}", "HF_BASE_MODEL", now, now, ""))
            world.deployments.put(Deployment(account="local", id=f"d{number}", created=now, updated=now))
    with world.change():
        world.checkpoints.remove(f"{ACCOUNT}/rlorTrainerJobs/j0/checkpoints/step-1")
        world.models.remove(f"{ACCOUNT}/models/m{jobs - 1}")
    world.store.close()


def served(root: Path) -> tuple[Dump, int]:
    """Return all that a start on a folder would serve, and the number of the start."""
    store = StateFolder(root).store()
    try:
        world = World(store=store)
        return world.dump(), world.ids.boot
    finally:
        store.close()


def flip(whole: bytes, place: int, bit: int) -> bytes:
    broken = bytearray(whole)
    broken[place] ^= 1 << bit
    return bytes(broken)


def flips(folder: Path, count: int, seed: int) -> tuple[int, int]:
    """Flip one bit at a time, `count` times; how often that was harmless, and how often it was refused."""
    root, chance = folder / "state", random.Random(seed)
    fill(root, 3, 6)
    file = root / "metadata.sqlite"
    whole = file.read_bytes()
    expected = served(root)
    harmless = refused = 0
    for _ in range(count):
        for left in root.glob("metadata.sqlite*"):
            left.unlink()
        place, bit = chance.randrange(len(whole)), chance.randrange(8)
        file.write_bytes(flip(whole, place, bit))
        try:
            found, why = served(root), ""
        except (StorageFailed, FailedPrecondition) as error:
            found, why = expected, error.message
        assert found == expected, f"bit {bit} of byte {place} was served"
        assert not why or "ftsim state recover" in why, f"bit {bit} of byte {place}: {why}"
        harmless, refused = harmless + (not why), refused + bool(why)
    return harmless, refused


def test_no_flipped_bit_of_a_row_is_served(tmp_path: Path) -> None:
    harmless, refused = flips(tmp_path, 40, 1)
    assert harmless
    assert refused


@pytest.mark.slow
def test_no_flipped_bit_of_thousands_is_served(tmp_path: Path) -> None:
    harmless, refused = flips(tmp_path, 1000, 2)
    assert harmless
    assert refused


def damage(root: Path, what: str) -> None:
    """Change a bit in the middle of a text that stands once in the metadata."""
    file = root / "metadata.sqlite"
    whole = file.read_bytes()
    assert whole.count(what.encode()) == 1
    file.write_bytes(flip(whole, whole.index(what.encode()) + len(what) // 2, 0))


def test_a_damaged_row_is_named_when_it_is_asked_for(tmp_path: Path) -> None:
    """Rows of other jobs are served meanwhile, and the damaged one is not replaced."""
    root = tmp_path / "state"
    fill(root, 3, 6)
    file = root / "metadata.sqlite"
    row = f"{ACCOUNT}/rlorTrainerJobs/j1/checkpoints/step-3"
    store = Database(file)
    body = store.read("checkpoint", row)
    assert body is not None
    store.write({("checkpoint", row): {**body, "saved_as": "find me here"}})
    store.close()
    damage(root, "find me here")
    world = World(store=StateFolder(root).store())
    assert len(world.checkpoints.of(f"{ACCOUNT}/rlorTrainerJobs/j0")) == 5
    with pytest.raises(StorageFailed, match=f"{row} is not what was stored.*`ftsim state recover` keeps"):
        world.checkpoints.of(f"{ACCOUNT}/rlorTrainerJobs/j1")
    late = Checkpoint(f"{ACCOUNT}/rlorTrainerJobs/j1", "step-9", 1, 1, CheckpointKind.TRAINING, "", "")
    with pytest.raises(StorageFailed, match=row), world.change():
        world.checkpoints.put(late)
    assert len(world.checkpoints.of(f"{ACCOUNT}/rlorTrainerJobs/j2")) == 6
    world.store.close()
    result = CliRunner().invoke(app, ["state", "verify", "--state-dir", str(root)])
    assert (result.exit_code, f"{row} is not what was stored" in result.stderr) == (1, True), result.output


def test_recovery_keeps_what_is_whole_and_makes_the_rest_from_blobs(tmp_path: Path) -> None:
    root = tmp_path / "state"
    fill(root, 3, 6)
    before, boot = served(root)
    damaged = f"{ACCOUNT}/rlorTrainerJobs/j1/checkpoints/step-0"
    store = Database(root / "metadata.sqlite")
    body = store.read("checkpoint", damaged)
    assert body is not None
    store.write({("checkpoint", damaged): {**body, "model_id": "find me here"}})
    store.close()
    damage(root, "find me here")
    result = CliRunner().invoke(app, ["state", "recover", "--state-dir", str(root)])
    assert result.stdout == "recovered: 17 checkpoints, 3 deployments, 3 jobs, 2 models\n", result.output
    after, later = served(root)
    assert sorted(map(str, after.pop("checkpoint"))) == sorted(map(str, before.pop("checkpoint")))
    assert after == before
    assert later > boot
    assert (root / "metadata.sqlite.damaged").is_file()
    fine = CliRunner().invoke(app, ["state", "recover", "--state-dir", str(root)])
    assert (fine.exit_code, "move it away first" in fine.stderr) == (1, True)


def test_metadata_without_any_row_are_no_new_beginning(tmp_path: Path) -> None:
    root = tmp_path / "state"
    fill(root, 1, 2)
    for left in root.glob("metadata.sqlite*"):
        left.unlink()
    Database(root / "metadata.sqlite").close()
    with pytest.raises(FailedPrecondition, match=r"1 blobs and no row in its metadata.sqlite: `ftsim state recover"):
        StateFolder(root).store()
    assert upkeep.recover(root) == {"checkpoint": 1, "job": 1}
