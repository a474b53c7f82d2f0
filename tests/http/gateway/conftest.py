"""The vendor's training clients on an emulator over the torch-free backend."""

from collections.abc import Callable, Iterator

import httpx
import pytest
from fireworks.training.sdk.client import FiretitanServiceClient, FiretitanTrainingClient

from emulator.server import Emulator
from emulator.state.entities import Job
from ftsim.testing.wire import Wire as Wire
from tests.doubles import BASE
from tests.sdk import types


@pytest.fixture
def connect(emu: Emulator, new_job: Callable[..., Job]) -> Iterator[Callable[..., FiretitanTrainingClient]]:
    """A training client of a job, which is created unless it exists."""
    services: list[FiretitanServiceClient] = []

    def open_client(job_id: str = "j1", lora_rank: int = 0, **facts: object) -> FiretitanTrainingClient:
        if f"accounts/{emu.account}/rlorTrainerJobs/{job_id}" not in emu.world.jobs:
            new_job(job_id, lora_rank=lora_rank, **facts)
        service = FiretitanServiceClient(base_url=gateway(emu, job_id), api_key=emu.api_key)
        services.append(service)
        return service.create_training_client(base_model=BASE, lora_rank=lora_rank)

    yield open_client
    for service in services:
        service.close()


@pytest.fixture
def wire(http: httpx.Client, new_job: Callable[..., Job]) -> Wire:
    """A full-parameter model on job j1."""
    new_job("j1")
    return Wire(http)


def gateway(emu: Emulator, job_id: str) -> str:
    return f"{emu.url}/training/v1/rlorTrainerJobs/{emu.account}/{job_id}"


def datum(*tokens: int, weights: list[float] | None = None) -> types.Datum:
    """Tokens that are to predict themselves: the double only looks at targets."""
    inputs = {"target_tokens": types.TensorData(data=list(tokens), dtype="int64", shape=[len(tokens)])}
    if weights is not None:
        inputs["weights"] = types.TensorData(data=weights, dtype="float32", shape=[len(weights)])
    return types.Datum(model_input=types.ModelInput.from_ints(list(tokens)), loss_fn_inputs=inputs)


def plain(*tokens: int) -> dict[str, object]:
    """The same as an April client writes it: no `type`, no weights."""
    return {
        "model_input": {"chunks": [{"tokens": list(tokens)}]},
        "loss_fn_inputs": {"target_tokens": {"data": list(tokens), "dtype": "int64"}},
    }


def batch(*tokens: int) -> dict[str, object]:
    return {"data": [plain(*tokens)], "loss_fn": "cross_entropy"}
