"""An emulator without torch, rows on it, and the command as a person calls it."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from emulator.backend import SavedState
from emulator.core.names import CheckpointScope
from emulator.platform.checkpoints.checkpoints import Origin
from emulator.platform.jobs.spec import JobSpec
from emulator.server import Emulator
from emulator.state.entities import Checkpoint, Job, Session
from ftsim.cli import main as cli
from tests.conftest import Ftsim
from tests.doubles import BASE, DictBackend, write_adapter, write_base, write_delta, write_training


@pytest.fixture
def emu(tmp_path: Path) -> Iterator[Emulator]:
    with Emulator(DictBackend(tmp_path), account="acct1", api_key="key1") as emulator:
        yield emulator


@pytest.fixture
def on(emu: Emulator) -> list[str]:
    """The options that name the emulator."""
    return ["--url", emu.url, "--api-key", emu.api_key]


@pytest.fixture
def refused(ftsim: Ftsim, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run the command as the console does; the one line it leaves with."""

    def call(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["ftsim", *words])
        with pytest.raises(SystemExit) as left:
            cli.main()
        assert left.value.code not in (0, None)
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("ftsim: ")
        return line

    return call


@pytest.fixture
def job(emu: Emulator) -> Job:
    """A full-parameter job with a row of every kind that it can have."""
    made = emu.platform.jobs.create(emu.account, JobSpec(base_model=BASE), "j1")
    save(emu, made, "step-10", lambda folder: write_training(folder), 10, "state")
    save(emu, made, "step-10-0a0a0a0a", lambda folder: write_base(folder), 10, "base")
    save(emu, made, "step-20-0a0a0a0a", lambda folder: write_delta(folder, [0.0] * 4, [1.0] * 4), 20, "delta")
    return made


RUN = "run-" + "c" * 32


@pytest.fixture
def session(emu: Emulator) -> Session:
    """A training session with a state and sampler weights of one run."""
    made = emu.platform.sessions.create(emu.account)
    scope = CheckpointScope(made.name, RUN)
    for name, write in (("step-3", lambda folder: write_training(folder, rank=8)), ("final-0c0c0c0c", write_adapter)):
        staged = emu.platform.blobs.stage()
        write(staged)
        emu.platform.checkpoints.save(Origin(scope, BASE, 8, f"{RUN}:train:0", "base"), name, staged, SavedState(3))
    return made


@pytest.fixture
def lora_job(emu: Emulator) -> Job:
    made = emu.platform.jobs.create(emu.account, JobSpec(base_model=BASE, lora_rank=8), "j2")
    save(emu, made, "final-0b0b0b0b", lambda folder: write_adapter(folder), 5, "base")
    return made


def save(emu: Emulator, job: Job, name: str, write: Callable[[Path], object], step: int, saved_as: str) -> Checkpoint:
    staged = emu.platform.blobs.stage()
    write(staged)
    origin = Origin(CheckpointScope(job.name), job.base_model, job.lora_rank, "m0", saved_as)
    parent = "step-10-0a0a0a0a" if saved_as == "delta" else None
    return emu.platform.checkpoints.save(origin, name, staged, SavedState(step, parent))
