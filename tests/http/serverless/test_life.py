"""A whole life on the pool with the vendor's clients (WIRE 2.12): train, save, list, sample, promote, resume, close."""

import re

import pytest
from fireworks.training.sdk import FireworksClient

from emulator.server import Emulator
from tests.doubles import BASE, FIRST_TOKEN
from tests.http.serverless.conftest import Serve, logprobs, short, step
from tests.sdk import RequestFailedError, types


def test_a_session_its_run_and_its_rows_have_the_names_that_the_service_gives_them(
    serve: Serve, client: FireworksClient
) -> None:
    service = serve()
    assert re.fullmatch(r"accounts/local/trainingSessions/ts-[0-9a-f]{32}", service.training_session_name or "")
    training = service.create_lora_training_client(BASE, rank=8)
    assert re.fullmatch(r"run-[0-9a-f]{32}:train:0", training.model_id)
    assert training.run_name == f"accounts/local/trainingRuns/{training.run_id}"
    step(training, 1)
    state = training.save_state("step-1").result()
    sampler = training.save_weights_for_sampler_ext("step-1")
    assert state.path == f"local/{training.run_id}/step-1"
    assert sampler.path == f"local/{training.run_id}/step-1-{training.session_id}"
    rows = client.list_training_session_checkpoints(service.training_session_name)
    assert [(short(row), row["checkpointType"], row["promotable"]) for row in rows] == [
        (f"{training.run_id}-step-1", "CHECKPOINT_TYPE_TRAINING_LORA", False),
        (f"{training.run_id}-step-1-{training.session_id}", "CHECKPOINT_TYPE_INFERENCE_LORA", True),
    ]


def test_the_saved_weights_are_sampled_and_the_base_beside_them(serve: Serve) -> None:
    service = serve()
    training = service.create_lora_training_client(BASE, rank=8)
    for _ in range(20):
        step(training, 2)
    saved = training.save_weights_for_sampler_ext("final")
    prompt, greedy = types.ModelInput.from_ints([FIRST_TOKEN]), types.SamplingParams(max_tokens=3, temperature=0.0)
    tuned = service.create_sampling_client(model_path=saved.path)
    plain = service.create_sampling_client(base_model=BASE)
    (after,) = tuned.sample(prompt, num_samples=1, sampling_params=greedy).result().sequences
    (before,) = plain.sample(prompt, num_samples=1, sampling_params=greedy).result().sequences
    assert list(after.tokens) == [FIRST_TOKEN + 2] * 3
    assert list(before.tokens) != list(after.tokens)


def test_another_session_resumes_a_run_with_its_moments_and_settings(serve: Serve, emu: Emulator) -> None:
    first = serve().create_lora_training_client(BASE, rank=16, train_mlp=False)
    step(first, 1)
    path = first.save_state("step-1").result().path
    resumed = serve().create_training_client_from_state_with_optimizer(path)
    assert resumed.run_id != first.run_id
    assert emu.journal.of("create_model")[-1].json["lora_config"] | {"alpha": None} == {
        "rank": 16,
        "alpha": None,
        "train_mlp": False,
        "train_attn": True,
        "train_unembed": True,
    }
    for training in (first, resumed):
        step(training, 3)
    assert logprobs(resumed, 0, 1, 2, 3) == logprobs(first, 0, 1, 2, 3)


def test_without_the_optimizer_the_moments_start_anew(serve: Serve) -> None:
    first = serve().create_lora_training_client(BASE, rank=8)
    step(first, 1)
    resumed = serve().create_training_client_from_state(first.save_state("step-1").result().path)
    assert logprobs(resumed, 0, 1) == logprobs(first, 0, 1)
    for training in (first, resumed):
        step(training, 3)
    assert logprobs(resumed, 0, 1) != logprobs(first, 0, 1)


def test_a_sessions_row_becomes_a_model_that_opens_even_after_the_session_is_deleted(
    serve: Serve, client: FireworksClient, emu: Emulator
) -> None:
    service = serve()
    training = service.create_lora_training_client(BASE, rank=8)
    step(training, 1)
    path = training.save_state("step-1").result().path
    training.save_weights_for_sampler_ext("final")
    name = service.training_session_name
    state, sampler = client.list_training_session_checkpoints(name)
    assert [row["checkpointName"] for row in (state, sampler)] == [
        f"{training.run_id}-step-1",
        f"{training.run_id}-final-{training.session_id}",
    ]
    assert [row["availability"][0]["availabilityClass"] for row in (state, sampler)] == ["SINGLE_REGION"] * 2
    model = client.promote_session_checkpoint(sampler["name"], "mine", BASE)
    assert (model["state"], model["kind"], model["peftDetails"]["r"]) == ("READY", "HF_PEFT_ADDON", 8)
    with pytest.raises(RuntimeError, match=r"session checkpoint(.|\n)*not promotable"):
        client.promote_session_checkpoint(state["name"], "other", BASE)
    service.delete_training_session()
    service.delete_training_session()
    with pytest.raises(RuntimeError, match="checkpoints are listed and promoted only while its trainer is there"):
        client.promote_session_checkpoint(sampler["name"], "other", BASE)
    with emu.quirks.set("sessions.rows_outlive", True):
        assert client.promote_session_checkpoint(sampler["name"], "later", BASE)["state"] == "READY"
    again = serve().create_lora_training_client(BASE, rank=8)
    again.load_adapter("accounts/local/models/mine").result()
    resumed = serve().create_training_client_from_state(path)
    assert logprobs(again, 0, 1) == logprobs(resumed, 0, 1)
    assert emu.platform.models.get("accounts/local/models/mine").source_checkpoint == sampler["name"]


def test_one_session_holds_several_runs_and_a_frozen_reference(serve: Serve, client: FireworksClient) -> None:
    service = serve()
    small, large = (service.create_lora_training_client(BASE, rank=rank) for rank in (4, 8))
    reference = service.create_base_training_client(BASE)
    assert reference.run_id is None
    untouched = logprobs(reference, 0, 1)
    for training in (small, large):
        step(training, 1)
        training.save_state("step-1").result()
    assert logprobs(reference, 0, 1) == untouched != logprobs(small, 0, 1)
    rows = client.list_training_session_checkpoints(service.training_session_name)
    assert [short(row) for row in rows] == [f"{small.run_id}-step-1", f"{large.run_id}-step-1"]
    small.load_state("step-1").result()
    with pytest.raises(RequestFailedError, match="rank 8"):
        small.load_state(f"local/{large.run_id}/step-1").result()


def test_a_merged_model_is_saved_sampled_and_promoted(serve: Serve, client: FireworksClient) -> None:
    service = serve()
    training = service.create_lora_training_client(BASE, rank=8)
    for _ in range(20):
        step(training, 2)
    saved = training.save_weights_for_sampler_ext("whole", checkpoint_type="merged_base")
    (row,) = client.list_training_session_checkpoints(service.training_session_name)
    assert row["checkpointType"] == "CHECKPOINT_TYPE_INFERENCE_BASE"
    assert client.promote_session_checkpoint(row["name"], "whole", BASE)["kind"] == "HF_BASE_MODEL"
    sampled = service.create_sampling_client(model_path=saved.path).sample(
        types.ModelInput.from_ints([FIRST_TOKEN]),
        num_samples=1,
        sampling_params=types.SamplingParams(max_tokens=1, temperature=0.0),
    )
    assert list(sampled.result().sequences[0].tokens) == [FIRST_TOKEN + 2]


def test_a_session_whose_machine_went_away_goes_on_with_a_new_run(serve: Serve, emu: Emulator) -> None:
    service = serve()
    lost = service.create_lora_training_client(BASE, rank=8)
    step(lost, 1)
    path, before = lost.save_state("step-1").result().path, logprobs(lost, 0, 1)
    emu.platform.sessions.preempt("local", str(service.training_session_id))
    with pytest.raises(RequestFailedError, match="No session found for model_id"):
        step(lost, 1)
    again = service.create_lora_training_client(BASE, rank=8, seed=2)
    again.load_state_with_optimizer(path).result()
    assert logprobs(again, 0, 1) == before
