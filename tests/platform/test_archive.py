"""Saving, restoring and comparing everything an emulator has."""

import json
import os
import random
import stat
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from emulator.core import limits
from emulator.core.errors import Damaged, InvalidArgument, StorageFailed
from emulator.platform import archive
from emulator.platform.archive import Archive
from emulator.platform.differences import differences
from emulator.server import Emulator
from emulator.state.blobs import RECORD
from ftsim.cli.main import app
from ftsim.inspect.states import open_bundle
from tests.doubles import DictBackend
from tests.http.gateway.conftest import Wire
from tests.inspect.test_replay import train
from tests.journal.test_journal import JOBS, make_job


@pytest.fixture
def backend(tmp_path: Path) -> DictBackend:
    return DictBackend(tmp_path / "base")


@pytest.fixture
def emu(backend: DictBackend, tmp_path: Path) -> Iterator[Emulator]:
    with Emulator(backend, state_dir=tmp_path / "state", seed=3, api_key="fw-a-key-of-mine") as emulator:
        yield emulator


@pytest.fixture
def http(emu: Emulator) -> Iterator[httpx.Client]:
    with talking(emu) as client:
        yield client


def talking(emu: Emulator) -> httpx.Client:
    return httpx.Client(base_url=emu.url, headers={"X-Api-Key": emu.api_key}, timeout=60)


def rows(http: httpx.Client) -> list[str]:
    return [row["name"].rsplit("/", 1)[1] for row in http.get(f"{JOBS}/j1/checkpoints").json()["checkpoints"]]


def test_what_happened_since_is_undone(emu: Emulator, http: httpx.Client, tmp_path: Path) -> None:
    train(http)
    before = rows(http)
    weights = {row.id: _bytes(emu, row.blob) for row in emu.world.checkpoints}
    file = emu.snapshot(tmp_path / "a.zip")
    wire = Wire(http)
    wire.run("save_weights", 1, path="step-9")
    http.delete("/v1/accounts/local/models/m1")
    make_job(http, "j2")
    late = {str(row.blob) for row in emu.world.checkpoints if row.id == "step-9"}
    emu.restore(file)
    assert rows(http) == before
    assert http.get("/v1/accounts/local/models/m1").status_code == 200
    assert http.get(f"{JOBS}/j2").status_code == 404
    assert {row.id: _bytes(emu, row.blob) for row in emu.world.checkpoints} == weights
    assert not any(emu.platform.blobs.exists(blob) for blob in late)
    assert wire.send("optim_step", {"model_id": wire.model_id, "seq_id": 2}).status_code in (200, 404)


def test_a_restore_that_fails_leaves_the_present_as_it_was(
    emu: Emulator, http: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(http)
    file = emu.snapshot(tmp_path / "a.zip")
    row = next(iter(emu.world.checkpoints))
    changed = next(path for path in emu.platform.blobs.path(row.blob).iterdir() if path.name != RECORD)
    before, after = changed.read_bytes(), b"another save under the same key"
    changed.write_bytes(after)

    def full(_rows: object) -> None:
        raise StorageFailed("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(emu.world.store, "replace", full)
        with pytest.raises(StorageFailed):
            emu.restore(file)
    assert next(iter(emu.world.checkpoints)) is row
    assert changed.read_bytes() == after
    assert len(list(emu.platform.blobs.root.rglob(changed.name))) == 1
    emu.restore(file)
    restored = emu.platform.blobs.path(next(iter(emu.world.checkpoints)).blob)
    assert (restored / changed.name).read_bytes() == before
    assert not changed.exists()
    again = emu.snapshot(tmp_path / "b.zip")
    with Emulator(DictBackend(tmp_path / "other"), state_dir=tmp_path / "b") as other:
        other.restore(again)
        assert (other.platform.blobs.path(restored.relative_to(emu.platform.blobs.root).as_posix())).is_dir()


def test_a_state_may_be_larger_than_any_other_body(backend: DictBackend, tmp_path: Path) -> None:
    with Emulator(backend, body_limit=10_000) as emulator, talking(emulator) as http:
        train(http)
        emulator.bundle(tmp_path / "a.zip", {"padding.txt": os.urandom(20_000).hex()})
        assert http.put("/_ftsim/snapshot", content=(tmp_path / "a.zip").read_bytes()).status_code == 200
        assert len(rows(http)) == 2
        assert http.post("/_ftsim/clock", content=bytes(20_000)).status_code == 413


def test_nobody_waits_while_a_state_is_written(emu: Emulator, http: httpx.Client, tmp_path: Path) -> None:
    train(http)
    add, writing, go_on = archive._add, threading.Event(), threading.Event()

    def slowly(*words: Any) -> Any:
        writing.set()
        assert go_on.wait(30)
        return add(*words)

    with ThreadPoolExecutor(1) as pool, pytest.MonkeyPatch.context() as patch:
        patch.setattr(archive, "_add", slowly)
        saving = pool.submit(emu.snapshot, tmp_path / "a.zip")
        assert writing.wait(30)
        make_job(http, "j2")
        http.delete(f"{JOBS}/j1")
        go_on.set()
        file = saving.result(30)
    emu.restore(file)
    assert len(rows(http)) == 2
    assert http.get(f"{JOBS}/j2").status_code == 404


def test_what_a_death_left_without_a_row_is_set_aside_at_the_next_start(
    backend: DictBackend, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Emulator(backend, state_dir=tmp_path / "state") as emulator, talking(emulator) as http:
        train(http)
        kept = sorted(path for path in emulator.platform.blobs.root.rglob("*") if path.is_file())
        row = next(iter(emulator.world.checkpoints))
        orphan = emulator.platform.blobs.path(row.blob).with_name("orphan~0")
    (orphan / "deep").mkdir(parents=True)
    (orphan / "deep" / "model.safetensors").write_bytes(b"x")
    with Emulator(backend, state_dir=tmp_path / "state") as emulator:
        assert sorted(path for path in emulator.platform.blobs.root.rglob("*") if path.is_file()) == kept
    (found,) = (tmp_path / "state" / "lost+found").rglob("model.safetensors")
    assert found.read_bytes() == b"x"
    assert "1 things without a row were moved to" in caplog.text


def test_a_restored_state_goes_on_on_another_machine(emu: Emulator, http: httpx.Client, tmp_path: Path) -> None:
    emu.quirks.set("jobs.inactivity_s", 0.0)  # nobody talks to it for ten years
    train(http)
    emu.clock.advance(10 * 365 * 86400)
    file = emu.snapshot(tmp_path / "a.zip")
    with Emulator(DictBackend(tmp_path / "other"), state_dir=tmp_path / "b", seed=99) as other, talking(other) as there:
        other.restore(file)
        assert rows(there) == rows(http)
        assert other.clock.now() >= emu.clock.now() - 60_000_000
        assert other.world.ids.seed == 3
        wire = Wire(there)
        wire.run("load_weights", 1, path="step-2", optimizer=True)
        assert wire.run("optim_step", 2)["metrics"]
    with Emulator(DictBackend(tmp_path / "other"), state_dir=tmp_path / "b") as other, talking(other) as there:
        assert rows(there) == rows(http)


def test_ids_go_on_where_they_were(emu: Emulator, http: httpx.Client, tmp_path: Path) -> None:
    make_job(http)
    file = emu.snapshot(tmp_path / "a.zip")
    following = [emu.world.ids.hex(16) for _ in range(3)]
    emu.restore(file)
    assert [emu.world.ids.hex(16) for _ in range(3)] == following


def test_a_snapshot_needs_no_name(emu: Emulator, http: httpx.Client) -> None:
    make_job(http)
    file = emu.snapshot()
    http.delete(f"{JOBS}/j1")
    emu.restore(file)
    assert http.get(f"{JOBS}/j1").json()["state"] == "JOB_STATE_RUNNING"


def test_two_states_are_compared_field_by_field(emu: Emulator, http: httpx.Client, tmp_path: Path) -> None:
    train(http)
    one = Archive.open(emu.snapshot(tmp_path / "a.zip"))
    assert differences(one, Archive.open(emu.snapshot(tmp_path / "b.zip"))) == []
    emu.platform.jobs.preempt("local", "j1")
    make_job(http, "j2")
    found = {path: (mine, theirs) for path, mine, theirs in differences(one, Archive.open(emu.snapshot()))}
    assert found["accounts/local/rlorTrainerJobs/j1.state"] == ("JOB_STATE_RUNNING", "JOB_STATE_FAILED")
    assert found["accounts/local/rlorTrainerJobs/j2"] == ("absent", "job")
    blob = next(iter(emu.world.checkpoints)).blob
    next(emu.platform.blobs.path(blob).iterdir()).write_text("other")
    changed = differences(one, Archive.open(emu.snapshot()))
    assert any(path.startswith(f"blob {blob}.") for path, _, _ in changed)


def test_no_key_is_in_a_bundle(emu: Emulator, http: httpx.Client, tmp_path: Path) -> None:
    train(http)
    http.post("/training/v1/rlorTrainerJobs/local/j1/api/v1/telemetry", json={"note": emu.api_key})
    file = emu.bundle(tmp_path / "b.zip", {"failure.txt": f"assert {emu.api_key!r} == Bearer abc"})
    with zipfile.ZipFile(file) as archive:
        texts = b"".join(archive.read(name) for name in archive.namelist())
    assert emu.api_key.encode() not in texts
    assert b"Bearer abc" not in texts


def test_a_bundle_is_replayed_to_its_failure(emu: Emulator, http: httpx.Client, tmp_path: Path) -> None:
    train(http)
    assert http.post(JOBS, params={"rlorTrainerJobId": "j1"}, json={"trainingConfig": {}}).is_error
    file = emu.bundle(tmp_path / "b.zip", {"failure.txt": "it failed"})
    opened = open_bundle(file, DictBackend(tmp_path / "elsewhere"))
    assert (opened.failure, opened.reproduced, opened.versions) == ("it failed", True, {})
    assert opened.counts["job"] == 1
    with pytest.raises(InvalidArgument, match="no journal"):
        open_bundle(emu.snapshot(tmp_path / "plain.zip"), DictBackend(tmp_path / "elsewhere"))


def rewritten(file: Path, target: Path, change: Callable[[zipfile.ZipFile, str, bytes], bytes | None]) -> Path:
    """A copy in which `change` gives every member's new bytes, or None to leave it out, and may add members."""
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(target, "w") as out:
        for name in source.namelist():
            if (content := change(out, name, source.read(name))) is not None:
                out.writestr(name, content)
    return target


def _adding(name: str, mode: int = 0) -> Callable[[zipfile.ZipFile, str, bytes], bytes]:
    def change(out: zipfile.ZipFile, member: str, content: bytes) -> bytes:
        if member == "manifest.json":
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            out.writestr(info, "/etc/passwd")
        return content

    return change


def _editing(
    member: str, edit: Callable[[bytes], bytes | None]
) -> Callable[[zipfile.ZipFile, str, bytes], bytes | None]:
    return lambda out, name, content: (
        edit(content) if name == member or (member == "blob" and "blobs/" in name) else content
    )


def _world(edit: Callable[[dict[str, list[dict[str, object]]]], object]) -> Callable[..., bytes | None]:
    def change(content: bytes) -> bytes:
        body = json.loads(content)
        edit(body)
        return json.dumps(body).encode()

    return _editing("world.json", change)


def _manifest(edit: Callable[[dict[str, object]], object]) -> Callable[..., bytes | None]:
    def change(content: bytes) -> bytes:
        body = json.loads(content)
        edit(body)
        return json.dumps(body).encode()

    return _editing("manifest.json", change)


TRICKS = {
    "a path up": _adding("../../evil"),
    "a path up within": _adding("blobs/a/../../evil"),
    "an absolute path": _adding("/tmp/evil"),
    "a Windows path": _adding("..\\evil"),
    "a drive": _adding("C:evil"),
    "a link": _adding("blobs/link", stat.S_IFLNK | 0o777),
    "a device": _adding("blobs/device", stat.S_IFCHR | 0o666),
    "a key up": _manifest(lambda m: m["files"].update({"../../../evil": {}})),  # type: ignore[attr-defined]
    "a file up": _manifest(lambda m: next(iter(m["files"].values())).update({"../evil": [1, "x"]})),  # type: ignore[attr-defined]
    "no manifest": _editing("manifest.json", lambda content: None),
    "no world": _editing("world.json", lambda content: None),
    "another format": _manifest(lambda m: m.update(format=99)),
    "a manifest that is a list": _editing("manifest.json", lambda content: b"[]"),
    "a world that is no JSON": _editing("world.json", lambda content: b"{"),
    "an unknown kind": _world(lambda w: w.update(planet=[{}])),
    "a field too many": _world(lambda w: w["job"][0].update(evil=1) or w["job"][0].pop("id")),
    "a wrong type": _world(lambda w: w["job"][0].update(created="yesterday")),
    "a row without blob": _world(lambda w: w["checkpoint"][0].update(blob="local/j1/none")),
    "the same row twice": _world(lambda w: w["checkpoint"].append(w["checkpoint"][0])),
    "a spoiled blob": _editing("blob", lambda content: b"x" * len(content)),
    "a longer blob": _editing("blob", lambda content: content + b"x"),
    "a shorter blob": _editing("blob", lambda content: content[:-1]),
    "a missing blob": _editing("blob", lambda content: None),
    "a digest of a file up": _world(lambda w: w["checkpoint"][0]["digests"].update({"../../evil": "x"})),  # type: ignore[attr-defined]
    "no ids": _manifest(lambda m: m.pop("ids")),
    "wrong ids": _manifest(lambda m: m["ids"].update(sources=[1, 2])),  # type: ignore[attr-defined]
}


@pytest.mark.parametrize("trick", TRICKS.values(), ids=TRICKS)
def test_a_tricky_archive_is_refused_and_changes_nothing(
    emu: Emulator, http: httpx.Client, tmp_path: Path, trick: Callable[..., bytes | None]
) -> None:
    train(http)
    file = rewritten(emu.snapshot(tmp_path / "a.zip"), tmp_path / "evil.zip", trick)
    before, files = rows(http), sorted(path for path in tmp_path.rglob("*") if "staging" not in str(path))
    answer = http.put("/_ftsim/snapshot", content=file.read_bytes())
    assert answer.status_code == 400, answer.text
    assert rows(http) == before
    left = sorted(path for path in tmp_path.rglob("*") if "staging" not in str(path))
    assert left == files
    assert not Path("/tmp/evil").exists()


def test_whatever_bit_of_an_archive_is_another_it_is_refused_or_changes_nothing(
    emu: Emulator, http: httpx.Client, tmp_path: Path
) -> None:
    """Cut anywhere, too. The standard library has many errors for what it cannot read."""
    train(http)
    whole, chance, refused = emu.snapshot(tmp_path / "a.zip").read_bytes(), random.Random(5), 0
    before = emu.world.dump()
    for number in range(120):
        at = chance.randrange(len(whole))
        broken = bytearray(whole if number % 4 else whole[:at])
        if number % 4:
            broken[at] ^= 1 << chance.randrange(8)
        (tmp_path / "broken.zip").write_bytes(broken)
        try:
            Archive.open(tmp_path / "broken.zip").text("journal.jsonl")
            emu.restore(tmp_path / "broken.zip")
        except InvalidArgument:
            refused += 1
        assert emu.world.dump() == before
        for row in emu.world.checkpoints:
            assert emu.platform.checkpoints.folder(row)
    assert refused > 90


@pytest.mark.parametrize("content", [b"", b"PK", b"\x80\x04cos\nsystem\n", b"PK\x03\x04" + b"\0" * 100])
def test_no_archive_at_all_is_refused(emu: Emulator, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(InvalidArgument, match="no archive"):
        emu.restore(tmp_path / "x.zip")


def test_what_is_damaged_when_a_state_is_saved_is_damaged_after_its_restore(
    emu: Emulator, http: httpx.Client, backend: DictBackend, tmp_path: Path
) -> None:
    """Digests are those of the save, not of the bytes that the archive found."""
    train(http)
    damaged = {}
    for named in (*emu.world.checkpoints, *emu.world.models):
        victim = emu.platform.blobs.path(named.blob) / next(iter(named.digests))
        content = bytearray(victim.read_bytes())
        content[0] ^= 1
        victim.write_bytes(content)
        damaged[named.name] = victim.name
    file = emu.snapshot(tmp_path / "a.zip")
    with Emulator(backend, state_dir=tmp_path / "other") as other:
        other.restore(file)
        for row in other.world.checkpoints:
            with pytest.raises(Damaged, match=f"{damaged.pop(row.name)} is not what was saved"):
                other.platform.checkpoints.folder(row)
        for model in other.world.models:
            with pytest.raises(Damaged, match=f"{damaged.pop(model.name)} is not what was saved"):
                other.platform.models.folder(model)
    assert damaged == {}


def test_a_state_that_cannot_be_written_leaves_nothing(emu: Emulator, http: httpx.Client, tmp_path: Path) -> None:
    train(http)
    with pytest.raises(StorageFailed):
        emu.snapshot(tmp_path / "none" / "a.zip")
    blob = next(iter(emu.world.checkpoints)).blob
    file = next(emu.platform.blobs.path(blob).iterdir())
    file.unlink()
    file.symlink_to("/etc/passwd")
    with zipfile.ZipFile(emu.snapshot(tmp_path / "a.zip")) as archive:
        assert not [name for name in archive.namelist() if name.endswith(file.name) and blob in name]


def ftsim(*words: str) -> Result:
    return CliRunner().invoke(app, ["state", *words], prog_name="ftsim")


def test_the_command_saves_compares_and_restores(emu: Emulator, http: httpx.Client, tmp_path: Path) -> None:
    on = ["--url", emu.url, "--api-key", emu.api_key]
    file = str(tmp_path / "a.zip")
    train(http)
    assert "1 jobs, 2 checkpoints, 1 models" in ftsim("save", file, *on).output
    assert ftsim("diff", file, *on).exit_code == 0
    make_job(http, "j2")
    changed = ftsim("diff", file, *on)
    assert (changed.exit_code, changed.output) == (1, "accounts/local/rlorTrainerJobs/j2: 'absent' -> 'job'\n")
    assert ftsim("restore", file, *on).exit_code == 0
    assert ftsim("diff", file, *on).exit_code == 0
    (tmp_path / "broken.zip").write_bytes(b"x")
    assert ftsim("restore", str(tmp_path / "broken.zip"), *on).exit_code == 1
    assert ftsim("save", file, "--url", emu.url, "--api-key", "wrong").exit_code == 1
    assert ftsim("save", str(tmp_path / "none" / "a.zip"), *on).exit_code == 1


def _bytes(emu: Emulator, blob: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(emu.platform.blobs.path(blob).iterdir())}


def repacked(file: Path, into: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """A copy of an archive whose members were changed."""
    with zipfile.ZipFile(file) as old:
        members = {name: old.read(name) for name in old.namelist()}
    change(members)
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED) as new:
        for name, content in members.items():
            new.writestr(name, content)
    return into


def grow_a_blob(members: dict[str, bytes]) -> None:
    name = next(name for name in members if name.startswith("blobs/"))
    members[name] += b"more"


def large(members: dict[str, bytes]) -> None:
    """Bytes that unpack to a thousand times their size; small enough to be harmless, were it unpacked."""
    members["world.json"] += b" " * 12_000_000


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda members: members.update(stray=b"x"), "'stray' is not in its manifest"),
        (lambda members: members.update({"blobs/local/x/model.safetensors": b"x"}), "is not in its manifest"),
        (grow_a_blob, "of its manifest"),
        (large, "over 200 times its size"),
    ],
)
def test_an_archive_holds_what_its_manifest_declares(
    emu: Emulator, http: httpx.Client, tmp_path: Path, change: Callable[[dict[str, bytes]], None], said: str
) -> None:
    train(http)
    file = repacked(emu.snapshot(tmp_path / "a.zip"), tmp_path / "b.zip", change)
    answer = http.put("/_ftsim/snapshot", content=file.read_bytes())
    assert (answer.status_code, said in answer.json()["message"]) == (400, True), answer.text
    assert len(rows(http)) == 2


def test_a_state_of_zeros_comes_back(
    emu: Emulator, http: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that packs too tightly to be believed is stored as it is."""
    monkeypatch.setattr(limits, "ARCHIVE_RATIO", limits.ARCHIVE_RATIO._replace(value=20))
    train(http)
    row = next(iter(emu.world.checkpoints))
    (emu.platform.blobs.path(row.blob) / "zeros.bin").write_bytes(bytes(4_000_000))
    file = emu.snapshot(tmp_path / "a.zip")
    assert file.stat().st_size > 4_000_000
    emu.restore(file)
    assert len(rows(http)) == 2


def test_what_is_written_down_is_its_users_alone(emu: Emulator, tmp_path: Path) -> None:
    for file in (emu.snapshot(), emu.snapshot(tmp_path / "a.zip"), emu.bundle(tmp_path / "b.zip")):
        assert file.stat().st_mode & 0o777 == 0o600
