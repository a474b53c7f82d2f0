"""Acknowledged data stay, damaged ones are refused, unknown ones are not deleted (docs/durability.md)."""

import errno
import json
import os
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from emulator.core.errors import FailedPrecondition, StorageFailed
from emulator.server import Emulator
from emulator.state import upkeep
from emulator.state.blobs import RECORD, Blobs
from emulator.state.database import Database
from emulator.state.migrations import BOOT, FORMAT, migrate
from emulator.state.world import World
from ftsim.cli.main import app
from tests.doubles import DictBackend
from tests.http.gateway.conftest import Wire
from tests.inspect.test_replay import train
from tests.journal.test_journal import JOBS, make_job

FORMATS = Path(__file__).parent / "formats"


@pytest.fixture
def backend(tmp_path: Path) -> DictBackend:
    return DictBackend(tmp_path / "base")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def trained(backend: DictBackend, root: Path) -> Path:
    """A folder with a job of two rows and a promoted model."""
    with Emulator(backend, state_dir=root) as emulator, talking(emulator) as http:
        train(http)
    return root


def talking(emulator: Emulator) -> httpx.Client:
    return httpx.Client(base_url=emulator.url, headers={"X-Api-Key": emulator.api_key}, timeout=60)


def rows(http: httpx.Client) -> list[str]:
    return [row["name"].rsplit("/", 1)[1] for row in http.get(f"{JOBS}/j1/checkpoints").json()["checkpoints"]]


def blobs(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in (root / "blobs").rglob("*") if path.is_file()}


def metadata_gone(root: Path) -> None:
    for path in root.glob("metadata.sqlite*"):
        path.unlink()


def flip(path: Path, bit: int = 0) -> None:
    """Change one bit of a file; which one, `bit` says, from its end."""
    content = bytearray(path.read_bytes())
    content[-1 - bit // 8 % len(content)] ^= 1 << bit % 8
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["missing", "empty"])
def test_blobs_without_metadata_are_no_new_beginning(backend: DictBackend, trained: Path, how: str) -> None:
    metadata_gone(trained)
    if how == "empty":
        (trained / "metadata.sqlite").touch()
    before = blobs(trained)
    with pytest.raises(FailedPrecondition, match=r"blobs and no metadata.sqlite: `ftsim state recover"):
        Emulator(backend, state_dir=trained).start()
    assert blobs(trained) == before


def test_rows_are_made_anew_from_what_the_blobs_say(backend: DictBackend, trained: Path) -> None:
    with Emulator(backend, state_dir=trained) as emulator:
        before = emulator.world.dump()
    metadata_gone(trained)
    result = CliRunner().invoke(app, ["state", "recover", "--state-dir", str(trained)])
    assert result.stdout == "recovered: 2 checkpoints, 1 jobs, 1 models\n"
    with Emulator(backend, state_dir=trained) as emulator, talking(emulator) as http:
        after = emulator.world.dump()
        assert after["checkpoint"] == before["checkpoint"]
        assert [m["name"] for m in http.get("/v1/accounts/local/models?pageSize=200").json()["models"]][-1].endswith(
            "m1"
        )
        wire = Wire(http)
        wire.run("load_weights", 1, path="step-2", optimizer=True)
        assert wire.run("save_weights", 2, path="step-9")["path"] == "step-9"
        assert emulator.platform.lost == []
    kept = CliRunner().invoke(app, ["state", "recover", "--state-dir", str(trained)])
    assert (kept.exit_code, "is there: move it away first" in kept.stderr) == (1, True)


@pytest.mark.parametrize("thing", ["notes.txt", "blobs/holiday/picture.jpg"])
def test_a_folder_of_somebody_else_is_refused(backend: DictBackend, root: Path, thing: str) -> None:
    (root / thing).parent.mkdir(parents=True)
    (root / thing).write_text("mine")
    with pytest.raises(FailedPrecondition, match="is no state folder of ftsim"):
        Emulator(backend, state_dir=root).start()
    assert (root / thing).read_text() == "mine"


def test_a_save_after_the_folder_has_gone_is_not_acknowledged(backend: DictBackend, root: Path) -> None:
    with Emulator(backend, state_dir=root) as emulator, talking(emulator) as http:
        make_job(http)
        wire = Wire(http)
        assert http.get("/healthz").json() == {"status": "ok"}
        shutil.rmtree(root)
        failed = wire.run("save_weights", 1, path="step-1")
        assert "gone" in failed["error"]
        answer = http.post(JOBS, json={"trainingConfig": {"baseModel": "accounts/fireworks/models/qwen3-8b"}})
        assert answer.status_code == 507
        assert http.get("/healthz").status_code == 503
        assert http.get(f"{JOBS}/j1").status_code == 200
    assert not (root / "blobs").exists()


def test_a_folder_that_was_moved_away_and_back_is_served_again(
    backend: DictBackend, root: Path, tmp_path: Path
) -> None:
    with Emulator(backend, state_dir=root) as emulator, talking(emulator) as http:
        make_job(http)
        wire = Wire(http)
        root.rename(tmp_path / "moved")
        assert "gone" in wire.run("save_weights", 1, path="step-1")["error"]
        assert http.get("/healthz").status_code == 503
        (tmp_path / "moved").rename(root)
        assert http.get("/healthz").json() == {"status": "ok"}
        assert wire.run("save_weights", 2, path="step-2")["path"] == "step-2"
    with Emulator(backend, state_dir=root) as emulator, talking(emulator) as http:
        assert rows(http) == ["step-2"]


def test_a_folder_that_was_replaced_is_not_written_to(backend: DictBackend, root: Path, tmp_path: Path) -> None:
    with Emulator(backend, state_dir=root) as emulator, talking(emulator) as http:
        root.rename(tmp_path / "moved")
        shutil.copytree(tmp_path / "moved", root)
        answer = http.post(JOBS, json={"trainingConfig": {"baseModel": "accounts/fireworks/models/qwen3-8b"}})
        assert (answer.status_code, "another one lies there" in answer.json()["message"]) == (507, True)


def test_a_flipped_bit_is_never_served(backend: DictBackend, trained: Path) -> None:
    """Every file of every blob, over every way in: load, promote, download, serve."""
    with Emulator(backend, state_dir=trained) as emulator, talking(emulator) as http:
        wire = Wire(http)
        number = 0
        for row in list(emulator.world.checkpoints):
            folder = emulator.platform.blobs.path(row.blob)
            for name in row.digests:
                whole = (folder / name).read_bytes()
                for bit in (0, 7, 1 << 9):
                    number += 1
                    flip(folder / name, bit)
                    said = wire.run("load_weights", number, path=row.id, optimizer=True)
                    body = {"output_model": f"accounts/local/models/n{number}", "base_model": row.base_model}
                    owner = {"trainer_job_id": row.owner}
                    answer = http.post(f"/v1/accounts/local/checkpoints/{row.id}:promote", json={**body, **owner})
                    way = said["error"] if row.saved_as == "save_weights" else answer.json()["message"]
                    assert f"is damaged on disk: {name} is not what was saved" in way
                    assert answer.status_code == 400
                    (folder / name).write_bytes(whole)
        model = next(iter(emulator.world.models))
        folder = emulator.platform.blobs.path(model.blob)
        for name in model.digests:
            whole = (folder / name).read_bytes()
            flip(folder / name)
            assert http.get(f"/v1/{model.name}:getDownloadEndpoint").status_code == 400
            ask = {"model": model.name, "prompt": [1, 2], "max_tokens": 1}
            assert "damaged" in http.post("/inference/v1/completions", json=ask).text
            (folder / name).write_bytes(whole)
        assert http.get(f"/v1/{model.name}:getDownloadEndpoint").status_code == 200
        assert wire.run("load_weights", number + 1, path="step-2", optimizer=True)["path"] == "step-2"


def test_a_bit_that_a_disk_lost_in_silence_does_not_become_a_model(backend: DictBackend, trained: Path) -> None:
    """Neither size nor time of the file has changed since it was last checked."""
    with Emulator(backend, state_dir=trained) as emulator, talking(emulator) as http:
        row = next(row for row in emulator.world.checkpoints if row.saved_as != "save_weights")
        folder = emulator.platform.checkpoints.folder(row)
        for name in row.digests:
            before = os.stat(folder / name)
            whole = (folder / name).read_bytes()
            with (folder / name).open("r+b") as file:
                file.write(bytes([whole[0] ^ 1]))
            os.utime(folder / name, ns=(before.st_atime_ns, before.st_mtime_ns))
            body = {"output_model": f"accounts/local/models/{name.split('.')[0]}", "base_model": row.base_model}
            answer = http.post(
                f"/v1/accounts/local/checkpoints/{row.id}:promote", json={**body, "trainer_job_id": row.owner}
            )
            assert (answer.status_code, f"{name} is not what was saved" in answer.text) == (400, True), answer.text
            (folder / name).write_bytes(whole)
        assert len(emulator.world.models) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for the name of an open file")
def test_a_file_that_cannot_reach_the_disk_is_no_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large file is synced while its digest is taken; an error is told once by the system, and not lost here."""
    made = Blobs(tmp_path / "blobs")
    fsync, failed = os.fsync, list[str]()

    def bad(descriptor: int) -> None:
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        if name.endswith("model.safetensors") and not failed:
            failed.append(name)
            raise OSError(errno.EIO, "Input/output error")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", bad)
    for expected in (True, False):
        staged = made.stage()
        (staged / "model.safetensors").write_bytes(bytes(3 << 20))
        (staged / "config.json").write_text("{}")
        digests = made.digest(staged)
        if expected:
            with pytest.raises(StorageFailed, match="Input/output error"):
                made.commit(staged, "local/j1/one", digests, b"{}")
            assert not staged.exists()
        else:
            made.commit(staged, "local/j1/one", digests, b"{}")
    assert made.exists("local/j1/one")
    assert len(failed) == 1


def test_verify_names_what_is_damaged(trained: Path) -> None:
    runner = CliRunner()
    fine = runner.invoke(app, ["state", "verify", "--state-dir", str(trained)])
    assert (fine.exit_code, "all as they were saved" in fine.stdout) == (0, True), fine.output
    victim = next(path for path in (trained / "blobs").rglob("model.safetensors") if "models" in path.parts)
    flip(victim)
    found = runner.invoke(app, ["state", "verify", "--state-dir", str(trained)])
    assert found.exit_code == 1
    assert "accounts/local/models/m1 is damaged on disk: model.safetensors" in found.stdout


def test_gc_empties_lost_and_found_alone(backend: DictBackend, trained: Path) -> None:
    stray = trained / "blobs" / "local" / "stray~1" / "model.safetensors"
    stray.parent.mkdir()
    stray.write_bytes(b"12345")
    before = blobs(trained)
    with Emulator(backend, state_dir=trained) as emulator:
        assert emulator.platform.lost == ["local/stray~1"]
        with pytest.raises(FailedPrecondition, match="another emulator"):
            upkeep.gc(trained)
    assert upkeep.gc(trained) == (1, 5)
    del before["blobs/local/stray~1/model.safetensors"]
    assert blobs(trained) == before
    assert not (trained / "lost+found").exists()


def test_prune_takes_what_was_deleted_long_ago(backend: DictBackend, trained: Path) -> None:
    with Emulator(backend, state_dir=trained) as emulator, talking(emulator) as http:
        http.delete(f"{JOBS}/j1")
    assert upkeep.prune(trained, 1).owners == []
    told = upkeep.prune(trained, 0, dry=True)
    assert (told.owners, told.rows) == (["accounts/local/rlorTrainerJobs/j1"], 2)
    upkeep.prune(trained, 0)
    with Emulator(backend, state_dir=trained) as emulator, talking(emulator) as http:
        assert http.get(f"{JOBS}/j1").status_code == 404
        assert http.get("/v1/accounts/local/models/m1").status_code == 200
        assert len(emulator.world.checkpoints) == 0
        assert [path for path in emulator.platform.blobs.root.rglob(RECORD) if "models" not in path.parts] == []


@pytest.mark.parametrize(("form", "row"), [(3, "s-1-0a1b2c3d"), (6, "final")])
def test_a_state_of_an_older_format_is_brought_here(backend: DictBackend, tmp_path: Path, form: int, row: str) -> None:
    root = shutil.copytree(FORMATS / str(form), tmp_path / "old")
    with closing(sqlite3.connect(root / "metadata.sqlite")) as database:
        database.executescript((root / "metadata.sql").read_text())
        stored = {key: json.loads(body) for key, body in database.execute("select key, body from entities")}
    with pytest.raises(FailedPrecondition, match=f"format {form}, this emulator reads {FORMAT}: `ftsim state migrate`"):
        Emulator(backend, state_dir=root).start()
    result = CliRunner().invoke(app, ["state", "migrate", "--state-dir", str(root)])
    assert result.stdout == f"format {FORMAT}, from {form}\n", result.output
    with closing(sqlite3.connect(root / f"metadata.sqlite.format-{form}")) as old:
        (body,) = old.execute("select body from entities where kind = 'meta'").fetchone()
        assert json.loads(body)["format"] == form
    with Emulator(backend, state_dir=root) as emulator, talking(emulator) as http:
        assert rows(http) == ["step-2", row]
        assert all(row.digests for row in emulator.world.checkpoints)
        assert all(emulator.platform.checkpoints.folder(row).is_dir() for row in emulator.world.checkpoints)
        entities = [entity for table in emulator.world._tables.values() for entity in table]
        assert {entity.name for entity in entities} == stored.keys() - {"boot"}
    assert upkeep.verify(root).damaged == []
    metadata_gone(root)
    assert upkeep.recover(root)["checkpoint"] == 2


def test_a_row_with_a_field_that_nobody_knows_is_named(backend: DictBackend, trained: Path) -> None:
    store, name = Database(trained / "metadata.sqlite"), "accounts/local/models/m1"
    store.write({("model", name): {**(store.read("model", name) or {}), "surprise": 1}})
    store.close()
    with pytest.raises(StorageFailed, match="model accounts/local/models/m1 cannot be read"):
        Emulator(backend, state_dir=trained).start()


def test_a_malformed_page_is_a_sentence(backend: DictBackend, trained: Path) -> None:
    file = trained / "metadata.sqlite"
    content = file.read_bytes()
    file.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with pytest.raises(StorageFailed, match=r"metadata\.sqlite is damaged .*`ftsim state recover`"):
        Emulator(backend, state_dir=trained).start()


def test_a_folder_that_cannot_be_written_is_served_for_reading(
    backend: DictBackend, trained: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(path: Path) -> None:
        raise OSError(30, "Read-only file system")

    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    monkeypatch.setattr("emulator.state.folder._make", refused)
    with Emulator(backend, state_dir=trained) as emulator, talking(emulator) as http:
        assert "is open for reading alone" in caplog.text
        assert "reading alone" in http.get("/healthz").json()["readOnly"]
        assert rows(http)[0] == "step-2"
        assert http.get("/v1/accounts/local/models/m1:getDownloadEndpoint").status_code == 200
        assert http.delete(f"{JOBS}/j1").status_code == 507
        assert http.get(f"{JOBS}/j1").json()["state"] == "JOB_STATE_RUNNING"
        wire = Wire(http)
        assert wire.run("load_weights", 1, path="step-2", optimizer=True)["path"] == "step-2"
        assert "reading alone" in wire.run("save_weights", 2, path="step-9")["error"]
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before


def test_a_full_disk_lets_a_state_be_read(backend: DictBackend, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Database.write

    def full(self: Database, *args: object, **kwargs: object) -> None:
        raise StorageFailed("the state folder cannot be written: database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Database, "write", full)
        world = World(store=Database(trained / "metadata.sqlite"))
    assert "open for reading alone" in world.store.read_only
    assert Database.write is write
    with pytest.raises(StorageFailed), world.change():
        world.jobs.put(next(iter(world.jobs)))
    world.store.close()


def test_the_folder_is_its_users_alone(trained: Path) -> None:
    assert trained.stat().st_mode & 0o777 == 0o700
    assert os.stat(trained / "lock").st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("before", "after"), [("CREATING", "READY"), ("ACTIVE", "READY"), ("DELETED", "DELETING"), ("EXPIRED", "EXPIRED")]
)
def test_a_session_of_format_5_has_a_public_state(tmp_path: Path, before: str, after: str) -> None:
    store, name = Database(tmp_path / "metadata.sqlite"), "accounts/a/trainingSessions/ts-1"
    body = {"account": "a", "id": "ts-1", "created": 1, "updated": 2, "state": f"TRAINING_SESSION_STATE_{before}"}
    store.write({("session", name): body, BOOT: {"format": 5, "count": 0}})
    assert migrate(store, Blobs(tmp_path / "blobs")) == [5, 6, 7]
    found = World(store=store).sessions.get(name)
    assert found is not None
    assert found.state == f"TRAINING_SESSION_STATE_{after}"
    store.close()


def test_a_deployment_of_format_4_keeps_what_was_set(tmp_path: Path) -> None:
    store, account = Database(tmp_path / "metadata.sqlite"), "accounts/a"
    body = {
        "account": "a", "id": "d1", "base_model": "m", "created": 1, "updated": 2, "state": "READY", "pending": None,
        "enable_hot_load": True, "bucket_type": "FW_HOSTED", "bucket_url": "gs://b/", "trainer_job": "j", "shape": "s",
        "transition": "SYNC", "min_replicas": 1, "max_replicas": 3, "replicas": 1, "generation": 0, "deleted": None,
        "request": {"displayName": "mine", "annotations": {"k": "v"}, "forTraining": True, "extraArgs": ["x"],
                    "baseModel": "m", "description": "old"},
        "pods": [],
    }  # fmt: skip
    store.write({("deployment", f"{account}/deployments/d1"): body, BOOT: {"format": 4, "count": 0}})
    assert migrate(store, Blobs(tmp_path / "blobs")) == [4, 5, 6, 7]
    found = World(store=store).deployments.get(f"{account}/deployments/d1")
    assert found is not None
    assert (found.hot_load_bucket_url, found.hot_load_trainer_job, found.deployment_shape) == ("gs://b/", "j", "s")
    assert (found.min_replica_count, found.max_replica_count, found.hot_load_transition_type) == (1, 3, "SYNC")
    assert (found.display_name, found.description, found.annotations) == ("mine", "old", {"k": "v"})
    assert found.for_training
    assert found.request == {"extraArgs": ["x"]}
    store.close()
