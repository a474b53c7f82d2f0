"""An emulator over the torch-free backend, plain HTTP on it, and jobs without a request: for every folder in here."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from emulator.platform.jobs.spec import JobSpec
from emulator.server import Emulator
from emulator.state.entities import Job
from tests.doubles import BASE, DictBackend


@pytest.fixture
def backend(tmp_path: Path) -> DictBackend:
    return DictBackend(tmp_path / "backend")


@pytest.fixture
def emulator_settings() -> dict[str, Any]:
    """Settings of `emu`, which a folder or a file may have others of."""
    return {}


@pytest.fixture
def emu(backend: DictBackend, emulator_settings: dict[str, Any]) -> Iterator[Emulator]:
    with Emulator(backend, **emulator_settings) as emulator:
        yield emulator


@pytest.fixture
def http(emu: Emulator) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=emu.url, headers={"X-Api-Key": emu.api_key}, timeout=60) as client:
        yield client


@pytest.fixture
def new_job(emu: Emulator) -> Callable[..., Job]:
    """Create a job without HTTP."""

    def create(job_id: str = "j1", **facts: Any) -> Job:
        return emu.platform.jobs.create(emu.account, JobSpec(**{"base_model": BASE, **facts}), job_id)

    return create
