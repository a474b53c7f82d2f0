"""The pool over real models: what is trained is what is sampled, and a resumed run goes on to the bit."""

from collections.abc import Iterator

import pytest

from ftsim.scenarios import shared_backend
from ftsim.scenarios.support.stage import BASE, Stage, open_stage, train
from ftsim.testing.clients import batch
from tests.sdk import types


@pytest.fixture
def stage() -> Iterator[Stage]:
    with open_stage(shared_backend()) as opened:
        yield opened


def test_a_resumed_run_goes_on_to_the_bit(stage: Stage) -> None:
    first = stage.serverless().create_lora_training_client(BASE, rank=4)
    train(first, 1)
    path = first.save_state("step-1").result().path
    resumed = stage.serverless().create_training_client_from_state_with_optimizer(path)
    for client in (first, resumed):
        train(client, 2)
    assert stage.weights(resumed) == stage.weights(first)


def test_the_trainer_and_the_sampler_agree_on_the_saved_weights(stage: Stage) -> None:
    service = stage.serverless()
    client = service.create_lora_training_client(BASE, rank=4)
    for number in range(4):
        train(client, number)
    sampler = service.create_sampling_client(model_path=client.save_weights_for_sampler_ext("final").path)
    prompt = [5, 6, 7, 8]
    (sampled,) = (
        sampler.sample(
            types.ModelInput.from_ints(prompt),
            num_samples=1,
            sampling_params=types.SamplingParams(max_tokens=3, temperature=1.0, seed=3),
        )
        .result()
        .sequences
    )
    tokens = [*prompt, *sampled.tokens]
    datum = types.Datum(
        model_input=types.ModelInput.from_ints(tokens[:-1]),
        loss_fn_inputs={"target_tokens": types.TensorData(data=tokens[1:], dtype="int64", shape=[len(tokens) - 1])},
    )
    trained = client.forward([datum], "cross_entropy").result().loss_fn_outputs[0]["logprobs"].data[-3:]
    assert list(sampled.logprobs) == pytest.approx(list(trained), abs=1e-4)


def test_sessions_train_apart(stage: Stage) -> None:
    first, second = (stage.serverless().create_lora_training_client(BASE, rank=4, seed=1) for _ in range(2))
    assert stage.weights(first) == stage.weights(second)
    train(first, 1)
    assert stage.weights(first) != stage.weights(second)
    reference = first.forward(batch(), "cross_entropy").result().metrics
    assert second.forward(batch(), "cross_entropy").result().metrics != reference


def test_a_run_with_another_alpha_than_the_clients_default_goes_on_to_the_bit(stage: Stage) -> None:
    first = stage.serverless().create_lora_training_client(BASE, rank=4, alpha=64)
    train(first, 1)
    path = first.save_state("step-1").result().path
    resumed = stage.serverless().create_training_client_from_state_with_optimizer(path)
    for client in (first, resumed):
        train(client, 2)
    assert stage.weights(resumed) == stage.weights(first)
    answers = [client.forward(batch(), "cross_entropy").result() for client in (first, resumed)]
    assert answers[0].metrics == answers[1].metrics


def test_a_forward_takes_the_mask_that_loops_keep_beside_their_targets(stage: Stage) -> None:
    client = stage.serverless().create_lora_training_client(BASE, rank=4)
    tokens = [5, 6, 7, 8]
    targets = {"target_tokens": types.TensorData(data=tokens[1:], dtype="int64", shape=[3])}
    mask = {"loss_mask": types.TensorData(data=[0.0, 1.0, 1.0], dtype="float32", shape=[3])}
    plain, masked = (
        client.forward(
            [types.Datum(model_input=types.ModelInput.from_ints(tokens[:-1]), loss_fn_inputs=inputs)], "cross_entropy"
        ).result()
        for inputs in (targets, targets | mask)
    )
    assert plain.loss_fn_outputs[0]["logprobs"].data == masked.loss_fn_outputs[0]["logprobs"].data
