"""One emulator with real models for the whole area, reset before each test; the SDK's own clients on its socket."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import torch
from fireworks.training.sdk import DeploymentConfig, DeploymentManager
from fireworks.training.sdk.client import FiretitanServiceClient, FiretitanTrainingClient

from emulator import Emulator
from emulator.platform.jobs.spec import JobSpec
from ftsim.compute.backend import TorchBackend

torch.set_num_threads(1)  # the models are tiny and test processes share cores

BASE = "accounts/fireworks/models/qwen3-4b"
SHAPE = "accounts/fireworks/deploymentShapes/ds-qwen3-4b"
HOT_LOAD = "/hot_load/v1/models/hot_load"


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    backend = TorchBackend(tmp_path_factory.mktemp("bases"))
    backend.warm()
    with Emulator(backend) as started:
        yield started


@pytest.fixture
def emulator(running: Emulator) -> Emulator:
    running.reset()
    return running


@pytest.fixture
def http(emulator: Emulator) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {emulator.api_key}"}
    with httpx.Client(base_url=emulator.url, headers=headers, timeout=60) as client:
        yield client


@pytest.fixture
def manager(emulator: Emulator) -> DeploymentManager:
    return DeploymentManager(api_key=emulator.api_key, base_url=emulator.url)


Deploy = Callable[..., str]


@pytest.fixture
def deploy(manager: DeploymentManager) -> Deploy:
    """`deploy("d1", hot_load_trainer_job=...)` creates a deployment with the SDK and gives its model name."""

    def make(deployment_id: str = "d1", **settings: Any) -> str:
        config = DeploymentConfig(
            deployment_id, BASE, **{"deployment_shape": SHAPE, "min_replica_count": 1, **settings}
        )
        manager.create_or_get(config)
        info = manager.wait_for_ready(deployment_id)
        assert info.inference_model is not None
        return str(info.inference_model)

    return make


Train = Callable[..., FiretitanTrainingClient]


@pytest.fixture
def train(emulator: Emulator) -> Iterator[Train]:
    """`train("t1", lora_rank=4)` creates a job and connects to it; `base` is what it trains."""
    services: list[FiretitanServiceClient] = []

    def make(job_id: str = "t1", lora_rank: int = 0, base: str = BASE, **facts: Any) -> FiretitanTrainingClient:
        emulator.platform.jobs.create(emulator.account, JobSpec(base, lora_rank=lora_rank, **facts), job_id)
        gateway = f"{emulator.url}/training/v1/rlorTrainerJobs/{emulator.account}/{job_id}"
        service = FiretitanServiceClient(base_url=gateway, api_key=emulator.api_key)
        services.append(service)
        return service.create_training_client(base_model=base, lora_rank=lora_rank)

    yield make
    for service in services:
        service.close()


def attached(emulator: Emulator, job_id: str = "t1") -> str:
    return f"accounts/{emulator.account}/rlorTrainerJobs/{job_id}"
