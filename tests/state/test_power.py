"""Acknowledged data survive a power failure: all unsynced writes are lost, or some (tests/state/power.py)."""

import math
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from emulator.core.errors import FailedPrecondition
from emulator.server import Emulator
from tests.doubles import BASE, DictBackend
from tests.http.gateway.conftest import Wire
from tests.journal.test_journal import JOBS
from tests.state.power import COMPILER, Plug

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(COMPILER is None or sys.platform != "linux", reason="needs a C compiler, and Linux")
WITHOUT_SYNC = "import emulator.state.database as s; e = s._engine; s._engine = lambda path, _: e(path, 'NORMAL'); "
SERVE = "import runpy; runpy.run_module('tests.server_process', run_name='__main__')"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Plug.library(tmp_path_factory.mktemp("library"))


@dataclass
class Acknowledged:
    """Notes what the clients were told."""

    rows: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)

    def copy(self) -> "Acknowledged":
        """Return what they were told up to now."""
        return Acknowledged(list(self.rows), list(self.models), list(self.jobs), list(self.deleted), dict(self.names))


class Work(threading.Thread):
    """A client that creates, saves, promotes, renames and deletes, so many times or until it is told to stop."""

    def __init__(self, url: str, most: float = math.inf) -> None:
        super().__init__(daemon=True)
        self.done = Acknowledged()
        self._most = most
        self.first = 0
        """The number before that of its first job."""
        self.failure = ""
        self._url = url
        self._leave = threading.Event()

    def run(self) -> None:
        with httpx.Client(base_url=self._url, headers={"X-Api-Key": "fw-ftsim-local"}, timeout=60) as http:
            number = self.first
            while number < self.first + self._most and not self._leave.is_set() and not self.failure:
                number += 1
                try:
                    self._round(http, f"j{number}")
                except Exception as error:
                    self.failure = "" if self._leave.is_set() else f"{type(error).__name__}: {error}"
                    return

    def _round(self, http: httpx.Client, job: str) -> None:
        made = {"trainingConfig": {"baseModel": BASE}}
        http.post(f"{JOBS}?rlorTrainerJobId={job}", json=made).raise_for_status()
        self.done.jobs.append(f"accounts/local/rlorTrainerJobs/{job}")
        wire = Wire(http, job)
        assert wire.run("save_weights", 1, path="step-1")["path"] == "step-1"
        self.done.rows.append(f"accounts/local/rlorTrainerJobs/{job}/checkpoints/step-1")
        saved = wire.run("save_weights_for_sampler", 2, path="s-0a1b2c3d", checkpoint_type="base")
        assert saved["path"] == "s-0a1b2c3d"
        self.done.rows.append(f"accounts/local/rlorTrainerJobs/{job}/checkpoints/s-0a1b2c3d")
        owner = {"trainer_job_id": f"accounts/local/rlorTrainerJobs/{job}", "base_model": BASE}
        body = {"output_model": f"accounts/local/models/m-{job}", **owner}
        http.post("/v1/accounts/local/checkpoints/s-0a1b2c3d:promote", json=body).raise_for_status()
        self.done.models.append(body["output_model"])
        http.patch(f"/v1/{body['output_model']}", json={"displayName": job}).raise_for_status()
        self.done.names[body["output_model"]] = job
        if int(job[1:]) % 3 == 0:
            http.delete(f"{JOBS}/{job}").raise_for_status()
            self.done.deleted.append(f"accounts/local/rlorTrainerJobs/{job}")

    def wait_for_more(self) -> None:
        """Wait until one more save is acknowledged than now: then there is something to lose. A minute at most."""
        wanted, until = len(self.done.rows) + 1, time.monotonic() + 60
        while len(self.done.rows) < wanted and not self.failure and time.monotonic() < until:
            time.sleep(0.01)

    def stop(self) -> None:
        self._leave.set()
        self.join(60)


@contextmanager
def serving(root: Path, environment: dict[str, str], before: str = "") -> Iterator[tuple["subprocess.Popen[str]", str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.argv = ['serve', {str(root)!r}, '0']; {before}{SERVE}"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
    )
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def freeze(process: "subprocess.Popen[str]") -> None:
    """Stop it, and wait until none of its threads runs: the signal does not."""
    process.send_signal(signal.SIGSTOP)
    tasks = Path(f"/proc/{process.pid}/task")
    while any(_runs(stat) for stat in tasks.glob("*/stat")):
        time.sleep(0.001)


def _runs(stat: Path) -> bool:
    """False for a thread that was stopped, and for one that ended between the listing and this look."""
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "T"
    except (FileNotFoundError, ProcessLookupError):
        return False


def what_is_lost(folder: Path, promised: Acknowledged, scratch: Path) -> list[str]:
    """Start on what the disk holds, and compare with what was acknowledged."""
    with Emulator(DictBackend(scratch), state_dir=folder) as emulator:
        return lost_on(emulator, promised)


def lost_on(emulator: Emulator, promised: Acknowledged) -> list[str]:
    """Compare what is there with what was acknowledged; every file is read."""
    world, checkpoints, models = emulator.world, emulator.platform.checkpoints, emulator.platform.models
    lost = [name for name in promised.jobs if name not in world.jobs]
    lost += [name for name in promised.rows if name not in world.checkpoints]
    lost += [name for name in promised.models if name not in world.models]
    lost += [f"{name} is back" for name in promised.deleted if getattr(world.jobs.get(name), "deleted", 0) is None]
    for row in world.checkpoints:
        assert checkpoints.folder(row).is_dir(), row.name
    for model in world.models:
        assert models.folder(model).is_dir(), model.name
        if promised.names.get(model.name, model.display_name) != model.display_name:
            lost.append(f"the name of {model.name}")
    return lost


def rounds(library: Path, tmp_path: Path, count: int, *, seed: int = 1, before: str = "") -> list[str]:
    """Pull the plug `count` times at random moments of a busy server; what was lost, all in all."""
    root, chance = tmp_path / "state", random.Random(seed)
    plug = Plug(root, tmp_path / "shadow", seed)
    lost: list[str] = []
    with serving(root, plug.environment(library), before) as (process, url):
        work = Work(url)
        work.start()
        for number in range(count):
            work.wait_for_more()
            time.sleep(chance.uniform(0.05, 0.4))
            freeze(process)
            folder = plug.pull(tmp_path / f"disk-{number}", lucky=(0.0, 0.3, 0.7)[number % 3])
            promised = work.done.copy()
            process.send_signal(signal.SIGCONT)
            assert not work.failure, work.failure
            lost += what_is_lost(folder, promised, tmp_path / "scratch")
        assert len(work.done.rows) >= 2
        work.stop()
    return lost


def steps(library: Path, tmp_path: Path, count: int, every: int) -> tuple[int, list[str]]:
    """Let a server do the same work `count` times, and look at each `every`th moment before a step towards the disk.

    Looks at what the disk holds and at what a killed process leaves. Returns how many steps there were, and what was
    lost.
    """
    root, lost, number = tmp_path / "state", list[str](), 0
    plug = Plug(root, tmp_path / "shadow", 0)
    with serving(root, plug.environment(library)) as (process, url):
        (plug.shadow / "stop").touch()
        work = Work(url, count)
        work.start()
        while work.is_alive():
            if os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOHANG) is None:
                time.sleep(0.0005)
                continue
            number += 1
            if number % every == 0:
                time.sleep(0.005)  # what was answered before reaches the client
                promised = work.done.copy()
                left = (plug.pull(tmp_path / "disk"), shutil.copytree(root, tmp_path / "killed"))
                for folder in left:
                    found = what_is_lost(folder, promised, tmp_path / "scratch")
                    lost += [f"{folder.name}, step {number}: {one}" for one in found]
                    shutil.rmtree(folder)
            process.send_signal(signal.SIGCONT)
        assert not work.failure, work.failure
        assert len(work.done.models) == count
    return number, lost


def test_what_was_acknowledged_survives_a_power_failure(library: Path, tmp_path: Path) -> None:
    assert rounds(library, tmp_path, 6) == []


def test_a_store_that_does_not_wait_for_the_disk_is_found_out(library: Path, tmp_path: Path) -> None:
    try:
        lost = rounds(library, tmp_path, 3, before=WITHOUT_SYNC)
    except FailedPrecondition as refused:  # blobs, and not one row: that is no start from nothing
        lost = [refused.message]
    assert lost


@pytest.mark.parametrize(("count", "every"), [(1, 9), pytest.param(3, 1, marks=pytest.mark.slow)])
def test_a_death_before_any_step_towards_the_disk_loses_nothing(
    library: Path, tmp_path: Path, count: int, every: int
) -> None:
    number, lost = steps(library, tmp_path, count, every)
    assert lost == []
    assert number > 20 * count


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_what_was_acknowledged_survives_a_hundred_power_failures(library: Path, tmp_path: Path, seed: int) -> None:
    assert rounds(library, tmp_path, 25, seed=seed) == []
