"""Saves that are written beside the steps (`--compute async-save`), asked for over a socket, with real models."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import ftsim
from emulator.backend import BaseModel
from emulator.core.errors import StorageFailed
from emulator.platform.jobs.spec import JobSpec
from emulator.server import Emulator
from ftsim.compute.backend import TorchBackend
from ftsim.testing.wire import Wire
from tests.doubles import BASE
from tests.http.gateway.conftest import batch
from tests.journal.test_journal import JOBS

ADAM = {"learning_rate": 1e-2}
ROOT = Path(__file__).parents[3]
JOB = f"{JOBS[4:]}/j1"


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bases")
    TorchBackend(folder).folder(BaseModel(BASE))
    return folder


@pytest.fixture(params=[0, 1], ids=["own-process", "worker"])
def emu(request: pytest.FixtureRequest, bases: Path, tmp_path: Path) -> Iterator[Emulator]:
    backend = TorchBackend(bases, compute=["async-save"], workers=request.param)
    with contextlib.closing(backend), ftsim.Emulator(backend, state_dir=tmp_path / "state") as emulator:
        emulator.platform.jobs.create(emulator.account, JobSpec(base_model=BASE), "j1")
        yield emulator


@pytest.fixture
def wire(emu: Emulator) -> Iterator[Wire]:
    headers = {"X-Api-Key": emu.api_key}
    with httpx.Client(base_url=emu.url, headers=headers, timeout=120) as http:
        yield Wire(http)


class Disk:
    """A disk that takes no save until it is let go; then it may refuse it."""

    def __init__(self, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, refuses: int = 0) -> None:
        blobs = emulator.platform.blobs
        commit = blobs.commit
        self.reached, self.go = threading.Semaphore(0), threading.Event()
        left = [None] * refuses

        def slow(*words: Any) -> Path:
            self.reached.release()
            assert self.go.wait(60)
            if left:
                left.pop()
                raise StorageFailed("no space left")
            return commit(*words)

        monkeypatch.setattr(blobs, "commit", slow)


def step(wire: Wire, seq: int) -> float:
    """One optimizer step, from number `seq` on; its loss."""
    found = wire.run("forward_backward", seq, forward_backward_input=batch(3, 5, 7, 11))
    assert "error" not in wire.run("optim_step", seq + 1, adam_params=ADAM)
    return float(found["metrics"]["loss:sum"])


def ids(emulator: Emulator) -> list[str]:
    return [row.id for row in emulator.world.checkpoints.of(JOB)]


def staged(emulator: Emulator) -> list[Path]:
    return list((emulator.platform.blobs.root / ".staging").iterdir())


def test_steps_go_on_while_the_disk_holds_a_save(emu: Emulator, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(emu, monkeypatch)
    step(wire, 1)
    save = wire.submit("save_weights", 3, path="step-1")
    assert disk.reached.acquire(timeout=60)
    losses = [step(wire, 4), step(wire, 6)]
    assert not emu.platform.futures.get(JOB, save).done
    assert ids(emu) == []
    disk.go.set()
    assert wire.result(save)["path"] == "step-1"
    assert ids(emu) == ["step-1"]
    assert staged(emu) == []
    assert "error" not in wire.run("load_weights", 8, path="step-1", optimizer=True)
    assert [step(wire, 9), step(wire, 11)] == losses


def test_a_second_save_waits_for_the_first_and_so_does_a_load(
    emu: Emulator, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(emu, monkeypatch)
    step(wire, 1)
    calls = [
        wire.submit("save_weights", 3, path="a"),
        wire.submit("save_weights_for_sampler", 4, path="b-00000001", checkpoint_type="base"),
        wire.submit("save_weights_for_sampler", 5, path="c-00000001", checkpoint_type="delta"),
        wire.submit("load_weights", 6, path="a", optimizer=True),
        wire.submit("forward_backward", 7, forward_backward_input=batch(3, 5, 7, 11)),
    ]
    assert disk.reached.acquire(timeout=60)
    assert not disk.reached.acquire(timeout=0.3)
    assert len(staged(emu)) == 1
    assert not any(emu.platform.futures.get(JOB, call).done for call in calls)
    disk.go.set()
    assert [wire.result(call).get("error") for call in calls] == [None] * 5
    assert ids(emu) == ["a", "b-00000001", "c-00000001"]
    rows = list(emu.world.checkpoints.of(JOB))
    assert rows[2].previous_snapshot == "b-00000001"
    assert [row.created for row in rows] == sorted({row.created for row in rows})


def test_a_save_that_the_disk_refuses_is_no_base_and_leaves_nothing(
    emu: Emulator, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    step(wire, 1)
    assert "path" in wire.run("save_weights_for_sampler", 3, path="a-00000001", checkpoint_type="base")
    disk = Disk(emu, monkeypatch, refuses=1)
    step(wire, 4)
    lost = wire.submit("save_weights_for_sampler", 6, path="b-00000001", checkpoint_type="delta")
    assert disk.reached.acquire(timeout=60)
    step(wire, 7)
    disk.go.set()
    assert "no space left" in str(wire.result(lost)["error"])
    assert staged(emu) == []
    saved = wire.run("save_weights_for_sampler", 9, path="b-00000001", checkpoint_type="delta")
    assert "error" not in saved
    assert [row.previous_snapshot for row in emu.world.checkpoints.of(JOB)] == [None, "a-00000001"]


def test_files_that_cannot_be_written_are_told(emu: Emulator, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = emu.platform.blobs
    monkeypatch.setattr(blobs, "stage", lambda: blobs.root / ".staging" / "gone")
    step(wire, 1)
    answer = wire.run("save_weights", 3, path="step-1")
    assert "the state folder" in str(answer["error"]) or "cannot write below" in str(answer["error"])
    assert answer["error_class"] == "StorageFailed"
    step(wire, 4)
    assert ids(emu) == []


def test_a_job_that_is_deleted_meanwhile_lists_nothing(
    emu: Emulator, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    emu.quirks.set("save.duration_s", 60.0, job="j1")
    step(wire, 1)
    save = wire.submit("save_weights", 3, path="step-1")
    step(wire, 4)
    promise = emu.platform.futures.get(JOB, save)
    done = threading.Event()
    promise.watch(done.set)
    emu.platform.jobs.delete(emu.account, "j1")
    assert done.wait(30)
    assert b"stopped" in (promise.payload or b"")
    assert ids(emu) == []


def test_a_worker_that_is_killed_in_a_save_is_a_preemption(bases: Path, tmp_path: Path) -> None:
    backend = TorchBackend(bases, compute=["async-save"], workers=1)
    with contextlib.closing(backend), ftsim.Emulator(backend, state_dir=tmp_path / "state") as emulator:
        emulator.platform.jobs.create(emulator.account, JobSpec(base_model=BASE), "j1")
        with httpx.Client(base_url=emulator.url, headers={"X-Api-Key": emulator.api_key}, timeout=60) as http:
            wire = Wire(http)
            step(wire, 1)
            (pid,) = backend.workers.pids()
            # It stops before it can write, and is killed so: the call itself was answered.
            folder = emulator.platform.blobs.root / ".staging" / "0"
            os.mkfifo(tmp_path / "pipe")
            stage = emulator.platform.blobs.stage

            def with_a_pipe() -> Path:
                made = stage()
                (made / "__0_0.distcp").symlink_to(tmp_path / "pipe")
                return made

            emulator.platform.blobs.stage = with_a_pipe  # type: ignore[method-assign]
            save = wire.submit("save_weights", 3, path="step-1")
            step(wire, 4)
            assert folder.is_dir()
            os.kill(pid, signal.SIGKILL)
            assert "the trainer stopped" in str(wire.result(save)["error"])
            assert emulator.platform.jobs.get(emulator.account, "j1").state == "JOB_STATE_FAILED"
            assert ids(emulator) == []


SERVER = """
import sys, threading
from pathlib import Path
import ftsim
from ftsim.compute.backend import TorchBackend
backend = TorchBackend(Path(sys.argv[1]), compute=["async-save"])
with ftsim.Emulator(backend, state_dir=Path(sys.argv[2]), api_key="fw-ftsim-local") as emulator:
    print(emulator.url, flush=True)
    threading.Event().wait()
"""


def test_a_kill_in_between_leaves_nothing_listed_and_nothing_half_there(bases: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    words = [sys.executable, "-c", SERVER, str(bases), str(state)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with httpx.Client(base_url=url, headers={"X-Api-Key": "fw-ftsim-local"}, timeout=60) as http:
            made = http.post(f"{JOBS}?rlorTrainerJobId=j1", json={"trainingConfig": {"baseModel": BASE}})
            made.raise_for_status()
            wire = Wire(http)
            step(wire, 1)
            assert wire.run("save_weights", 3, path="step-1")["path"] == "step-1"
            slow = {"name": "save.duration_s", "value": 60.0, "where": {"job": "j1"}}
            http.post("/_ftsim/quirks", json=slow).raise_for_status()
            wire.submit("save_weights", 4, path="step-2")
            loss = step(wire, 5)
            assert len(list((state / "blobs" / ".staging").iterdir())) == 1
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    backend = TorchBackend(bases, compute=["async-save"])
    with ftsim.Emulator(backend, state_dir=state) as emulator:
        assert ids(emulator) == ["step-1"]
        assert staged(emulator) == []
        assert emulator.platform.lost == []
        with httpx.Client(base_url=emulator.url, headers={"X-Api-Key": emulator.api_key}, timeout=60) as http:
            again = Wire(http)
            assert "error" not in again.run("load_weights", 1, path="step-1", optimizer=True)
            assert step(again, 2) == loss
