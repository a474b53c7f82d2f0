"""An emulator over the torch-free backend, the vendor's clients on it, and rows without a trainer."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fireworks.training.sdk import FireworksClient, TrainerJobConfig, TrainerJobManager

from emulator.backend import SavedState
from emulator.core.names import CheckpointScope
from emulator.platform.checkpoints.checkpoints import Origin
from emulator.server import Emulator
from emulator.state.entities import Checkpoint, Job
from tests.doubles import BASE

Writer = Callable[[Path], Path]


@pytest.fixture
def emulator_settings() -> dict[str, Any]:
    return {"account": "acct1", "api_key": "key1", "keys": {"key2": "acct2"}}


@pytest.fixture
def manager(emu: Emulator) -> TrainerJobManager:
    return TrainerJobManager(api_key=emu.api_key, base_url=emu.url)


@pytest.fixture
def client(emu: Emulator) -> FireworksClient:
    return FireworksClient(api_key=emu.api_key, base_url=emu.url)


@pytest.fixture
def save(emu: Emulator) -> Callable[..., Checkpoint]:
    """Make a row of a job out of files that a writer of `tests.doubles` leaves in a staged folder."""
    return partial(keep, emu)


def keep(emu: Emulator, job: Job, name: str, write: Writer, step: int = 0) -> Checkpoint:
    """Make such a row of an emulator."""
    staged = emu.platform.blobs.stage()
    write(staged)
    origin = Origin(CheckpointScope(job.name), job.base_model, job.lora_rank, "m0", "test")
    return emu.platform.checkpoints.save(origin, name, staged, SavedState(step))


def config(**facts: object) -> TrainerJobConfig:
    """The argument of `TrainerJobManager.create`, on the manual path."""
    return TrainerJobConfig(**{"base_model": BASE, **facts})
