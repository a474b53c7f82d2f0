"""`ftsim curves`: figures of any program's run, as a table, as data, as event files."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from emulator.platform.jobs.spec import JobSpec
from emulator.server import Emulator
from tests.conftest import Ftsim
from tests.doubles import BASE, DictBackend
from tests.http.console.conftest import train
from tests.training.test_reporting import scalars


@pytest.fixture
def emu(tmp_path: Path) -> Iterator[Emulator]:
    with Emulator(DictBackend(tmp_path / "backend")) as emulator:
        emulator.platform.jobs.create("local", JobSpec(base_model=BASE), "j1")
        yield emulator


def test_curves_of_a_run_that_crashed_and_went_on(ftsim: Ftsim, on: list[str], emu: Emulator, tmp_path: Path) -> None:
    job = f"accounts/{emu.account}/rlorTrainerJobs/j1"
    assert ftsim("curves", "j1", *on).stdout == "j1 has taken no optimizer step yet\n"
    with httpx.Client(base_url=emu.url, headers={"X-Api-Key": emu.api_key}, timeout=60) as http:
        train(http, 1, 2, every=2)
        train(http, 3, 3, load="step-2")
        points = [{"key": "reward", "step": 1, "value": 0.5}]
        http.post("/_ftsim/metrics", json={"owner": job, "points": points}).raise_for_status()
    lines = [line.split() for line in ftsim("curves", "j1", *on).stdout.splitlines()]
    assert lines[0] == ["figure", "of", "steps", "first", "last", "lowest", "highest"]
    assert ["loss", "session", "1", "2"] in [line[:4] for line in lines]
    assert ["loss", "session", "2", "1"] in [line[:4] for line in lines]
    assert lines[-1] == ["reward", "program", "1", "0.5", "0.5", "0.5", "0.5"]
    told = json.loads(ftsim("curves", "j1", "--json", *on).stdout)
    assert [one["steps"] for one in told["segments"]] == [[1, 2], [3]]
    pytest.importorskip("tensorboard")
    written = ftsim("curves", "j1", "--tensorboard", str(tmp_path / "tb"), *on).stdout.split()
    assert [Path(folder).name for folder in written] == ["session-1", "session-2", "program"]
    assert [step for step, _ in scalars(tmp_path / "tb" / "session-1")["loss"]] == [1, 2]
    assert scalars(tmp_path / "tb" / "program") == {"reward": [(1, 0.5)]}
