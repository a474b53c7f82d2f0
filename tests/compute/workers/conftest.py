"""The vendor's client on jobs of an emulator with real models."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fireworks.training.sdk import TrainerJobConfig, TrainerJobManager
from fireworks.training.sdk.client import FiretitanServiceClient, FiretitanTrainingClient

from emulator.server import Emulator
from tests.sdk import types

BASE = "accounts/fireworks/models/qwen3-8b"
Connect = Callable[..., FiretitanTrainingClient]


def data(seed: int = 0) -> list[Any]:
    """Datums of different lengths."""
    rows = [[(7 * seed + 13 * row + 5 * at) % 250 + 1 for at in range(6 + 3 * row)] for row in range(4)]
    return [
        types.Datum(
            model_input=types.ModelInput.from_ints(tokens[:-1]),
            loss_fn_inputs={
                "target_tokens": types.TensorData(data=tokens[1:], dtype="int64", shape=[len(tokens) - 1]),
                "weights": types.TensorData(data=[0.5] * (len(tokens) - 1), dtype="float32", shape=[len(tokens) - 1]),
            },
        )
        for tokens in rows
    ]


def step(client: FiretitanTrainingClient, seed: int) -> float:
    """One optimizer step; returns its loss."""
    gradient = client.forward_backward(data(seed), "cross_entropy")
    moved = client.optim_step(types.AdamParams(learning_rate=1e-2), grad_accumulation_normalization="num_loss_tokens")
    loss = float(gradient.result().metrics["loss:sum"])
    moved.result()
    return loss


@pytest.fixture
def connect() -> Iterator[Connect]:
    """`connect(emulator, "job", rank)` gives a training client on a job, which is made, or resumed, if need be."""
    opened: list[Any] = []

    def open_client(emulator: Emulator, job: str, rank: int = 0) -> FiretitanTrainingClient:
        manager = TrainerJobManager(api_key=emulator.api_key, base_url=emulator.url)
        opened.append(manager)
        if emulator.world.jobs.find(emulator.account, job) is None:
            config = TrainerJobConfig(base_model=BASE, lora_rank=rank, requested_job_id=job)
            endpoint = manager.create_and_wait(config)
        else:
            endpoint = manager.reconnect_and_wait(job)
        service = FiretitanServiceClient(base_url=endpoint.base_url, api_key=emulator.api_key)
        opened.append(service)
        return service.create_training_client(base_model=BASE, lora_rank=rank)

    yield open_client
    for one in opened:
        one.close()
