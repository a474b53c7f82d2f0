"""The SDK's own managed path, WeightSyncer and samplers, create to close (WIRE 6, 9.11 to 9.14)."""

import time
from collections.abc import Callable, Iterator

import pytest
from fireworks.training.sdk.client import FiretitanServiceClient, FiretitanTrainingClient

from emulator import Emulator
from tests.http.inference.conftest import BASE
from tests.sdk import types

TOKENS = list(range(300, 316))
POLICY = "accounts/fireworks/trainingShapes/ts-qwen3-4b-policy"
LORA = "accounts/fireworks/trainingShapes/ts-qwen3-4b-lora"


def datum(tokens: list[int]) -> types.Datum:
    targets = types.TensorData(data=tokens[1:], dtype="int64", shape=[len(tokens) - 1])
    weights = types.TensorData(data=[1.0] * (len(tokens) - 1), dtype="float32", shape=[len(tokens) - 1])
    return types.Datum(
        model_input=types.ModelInput.from_ints(tokens[:-1]),
        loss_fn_inputs={"target_tokens": targets, "weights": weights},
    )


def step(client: FiretitanTrainingClient) -> None:
    client.forward_backward([datum(TOKENS)], "cross_entropy").result()
    client.optim_step(types.AdamParams(learning_rate=5e-3)).result()


Managed = Callable[..., FiretitanServiceClient]


@pytest.fixture
def managed(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Managed]:
    for name, value in emulator.env().items():
        monkeypatch.setenv(name, value)
    opened: list[FiretitanServiceClient] = []

    def make(lora_rank: int = 0, **settings: object) -> FiretitanServiceClient:
        service = FiretitanServiceClient.from_firetitan_config(
            base_model=BASE,
            lora_rank=lora_rank,
            training_shape_id=LORA if lora_rank else POLICY,
            cleanup_trainer_on_close=True,
            cleanup_deployment_on_close="delete",
            **settings,
        )
        opened.append(service)
        return service

    yield make
    for service in opened:
        service.close()


@pytest.mark.parametrize("lora_rank", [0, 8])
def test_sampled_logprobs_equal_the_training_forward_after_every_sync(managed: Managed, lora_rank: int) -> None:
    service = managed(lora_rank)
    client = service.create_training_client(base_model=BASE, lora_rank=lora_rank)
    prompt = TOKENS[:4]
    for _ in range(2):
        step(client)
        client.weight_sync().result()
        done = (
            service.create_sampling_client()
            .sample(types.ModelInput.from_ints(prompt), 4, types.SamplingParams(max_tokens=12, temperature=1.0, seed=7))
            .result()
        )
        assert len({tuple(sequence.tokens) for sequence in done.sequences}) > 1
        for sequence in done.sequences:
            forward = client.forward([datum([*prompt, *sequence.tokens])], "cross_entropy").result()
            trained = forward.loss_fn_outputs[0]["logprobs"].data[len(prompt) - 1 :]
            assert sequence.logprobs == pytest.approx(list(trained), abs=1e-4)


def test_managed_life_leaves_nothing_and_takes_under_a_second(
    managed: Managed, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a second of computing, and no sleep of the client's, whose shortest is 2 s (WIRE 4.4).

    Not of wall time, which would judge whatever else the machine does.
    """
    slept: list[float] = []
    sleep = time.sleep

    def noted(seconds: float) -> None:
        slept.append(seconds)
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", noted)

    def life() -> float:
        started = time.process_time()
        service = managed()
        client = service.create_training_client(base_model=BASE)
        for _ in range(2):
            step(client)
            client.weight_sync().result()
        prompt = types.ModelInput.from_ints(TOKENS[:3])
        sampler = service.create_sampling_client()
        assert sampler.sample(prompt, 2, types.SamplingParams(max_tokens=4)).result().sequences
        (deployment,) = emulator.world.deployments
        loads = emulator.world.loads.of(deployment.name)
        assert [load.kind.rpartition("INFERENCE_")[2] for load in loads] == ["BASE", "ARC_V2"]
        assert not any(load.error for load in loads)
        service.close()
        assert not list(emulator.world.deployments)
        return time.process_time() - started

    life()
    emulator.reset()
    slept.clear()
    assert life() < 1.0
    assert [seconds for seconds in slept if seconds >= 1] == []
