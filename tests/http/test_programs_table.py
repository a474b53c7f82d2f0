"""Programs written for the service are answered as it answers them: one test for each thing that stopped some once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fireworks.training.sdk.client import FiretitanSamplingParams
from transformers import AutoTokenizer

from emulator.state.server_record import ServerRecord
from ftsim.compute.models import hub
from ftsim.process import environment
from ftsim.scenarios import shared_backend
from ftsim.scenarios.support import deployments
from ftsim.scenarios.support.stage import BASE, EXPERTS, Stage, open_stage, train
from ftsim.testing.clients import batch
from tests.sdk import RequestFailedError, types

FW = "accounts/fireworks"
CHAT = "/inference/v1/chat/completions"


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with open_stage(shared_backend()) as opened:
        yield opened


@pytest.fixture(scope="module")
def run(stage: Stage) -> Any:
    """A run on the serverless pool that has been trained for a step."""
    client = stage.serverless().create_lora_training_client(BASE, rank=4, alpha=64)
    train(client, 1)
    return client


def datum(tokens: list[int], routes: list[str] | None = None, **more: list[float]) -> types.Datum:
    shape = [len(tokens) - 1]
    inputs = {name: types.TensorData(data=data, dtype="float32", shape=shape) for name, data in more.items()}
    inputs["target_tokens"] = types.TensorData(data=tokens[1:], dtype="int64", shape=shape)
    model_input = types.ModelInput.from_ints(tokens[:-1])
    if routes is not None:
        model_input = types.ModelInput(chunks=model_input.chunks, routing_matrices=routes)
    return types.Datum(model_input=model_input, loss_fn_inputs=inputs)


def logprobs(client: Any, one: types.Datum) -> list[float]:
    return list(client.forward([one], "cross_entropy").result().loss_fn_outputs[0]["logprobs"].data)


def chat(stage: Stage, model: str, **more: object) -> dict[str, Any]:
    sent = {"model": f"{FW}/models/{model}", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    answer = stage.http.post(CHAT, json={**sent, "return_token_ids": True, **more})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_a_hot_load_that_resets_the_cache_for_new_sessions(stage: Stage) -> None:
    client = stage.client()
    deployments.deploy(stage)
    snapshot = deployments.save(client, "one")
    body = {"identity": snapshot, "reset_prompt_cache": "new_session"}
    answer = stage.http.post(deployments.PATH, json=body, headers=deployments.headers(stage))
    assert (answer.status_code, answer.json()["status"]) == (200, "accepted")
    assert deployments.served(stage) == [snapshot]


@pytest.mark.parametrize("base", [BASE, EXPERTS])
def test_a_forward_with_targets_and_the_loops_own_mask(stage: Stage, base: str) -> None:
    client = stage.serverless().create_lora_training_client(base, rank=4)
    plain, masked = datum([5, 6, 7, 8]), datum([5, 6, 7, 8], loss_mask=[0.0, 1.0, 1.0])
    assert logprobs(client, plain) == logprobs(client, masked)


def test_completions_with_routes_that_the_trainer_replays(stage: Stage) -> None:
    service = stage.serverless()
    client = service.create_lora_training_client(EXPERTS, rank=4)
    assert client.supports_router_replay is True
    sampler = service.create_sampling_client(model_path=client.save_weights_for_sampler_ext("s").path)
    params = FiretitanSamplingParams(max_tokens=6, temperature=1.0, seed=3, include_routing_matrix=True)
    prompt = [5, 6, 7]
    (one,) = (
        sampler.sample(types.ModelInput.from_ints(prompt), num_samples=1, sampling_params=params).result().sequences
    )
    assert len(one.routing_matrices) == len(one.tokens)
    assert all(one.routing_matrices)
    replayed = logprobs(client, datum([*prompt, *one.tokens], ["", "", *one.routing_matrices]))
    assert replayed[2:] == pytest.approx(list(one.logprobs), abs=1e-5)


@pytest.mark.parametrize("effort", ["none", "low", "medium", "high", True, False, 5])
def test_reasoning_effort_of_every_kind(stage: Stage, effort: object) -> None:
    assert chat(stage, "qwen3-4b", reasoning_effort=effort)["usage"]["completion_tokens"] == 1
    asked = {"model": BASE, "prompt": [1, 2, 3], "max_tokens": 3, "temperature": 0}
    said = [
        stage.http.post("/inference/v1/completions", json=asked | more) for more in ({}, {"reasoning_effort": effort})
    ]
    assert [answer.status_code for answer in said] == [200, 200], "on token prompts it changes nothing"
    assert said[0].json()["choices"] == said[1].json()["choices"]


def test_reasoning_effort_and_thinking_reach_the_template(stage: Stage) -> None:
    low, high = (chat(stage, "gpt-oss-20b", reasoning_effort=effort)["prompt_token_ids"] for effort in ("low", "high"))
    assert low != high
    thinks, silent, none = (
        chat(stage, "qwen3-4b", **more)["prompt_token_ids"]
        for more in ({}, {"thinking": {"type": "disabled"}}, {"reasoning_effort": "none"})
    )
    assert silent == none
    assert thinks != silent


def test_a_run_with_alpha_64_that_a_client_of_alpha_32_goes_on_with(stage: Stage, run: Any) -> None:
    path = run.save_state("alpha-64").result().path
    resumed = stage.serverless().create_training_client_from_state_with_optimizer(path)
    assert stage.weights(resumed) == stage.weights(run)
    assert logprobs(resumed, batch(2)[0]) == logprobs(run, batch(2)[0])


def test_the_facts_of_a_base_model(stage: Stage) -> None:
    body = stage.http.get(f"/v1/{FW}/models/qwen3p8-27b").json()
    assert body["name"] == f"{FW}/models/qwen3p8-27b"
    assert body["supervisedLoraTunable"] is True
    assert body["trainingContextLength"] > 0
    assert body["huggingFaceUrl"] == "https://huggingface.co/Qwen/Qwen3.8-27B"


def test_the_state_of_a_session_and_the_names_of_its_rows(stage: Stage, run: Any) -> None:
    run.save_state("row").result()
    session = stage.http.get(f"/v1/accounts/{stage.account}/trainingSessions").json()["trainingSessions"][0]["name"]
    assert stage.http.get(f"/v1/{session}").json()["state"] == "TRAINING_SESSION_STATE_READY"
    found = [
        row
        for one in stage.http.get(f"/v1/accounts/{stage.account}/trainingSessions").json()["trainingSessions"]
        for row in stage.http.get(f"/v1/{one['name']}/checkpoints").json()["trainingSessionCheckpoints"]
    ]
    assert found
    assert all(row["checkpointName"] == row["name"].rpartition("/")[2] for row in found)
    assert any(row["checkpointName"].endswith("-row") for row in found)


def test_a_name_of_18_characters_on_the_pool(run: Any) -> None:
    run.save_weights_for_sampler_ext("a" * 17)
    with pytest.raises((RequestFailedError, RuntimeError), match="has 18 characters: use at most 17"):
        run.save_weights_for_sampler_ext("b" * 18)


@pytest.mark.parametrize(
    "name",
    ["kimi-k2p6", "deepseek-v3p2", "glm-5p1", "qwen3p8-27b", "kimi-k3", "muse-glimmer-30b", "qwen3p9-400b-a20b"],
)
def test_models_of_this_autumn_and_newer_ones(stage: Stage, name: str) -> None:
    assert stage.http.get(f"/v1/{FW}/models/{name}").json()["name"] == f"{FW}/models/{name}"


@pytest.mark.parametrize("shape", ["qwen3-8b-128k", "qwen3-8b-128k/versions/latest", "qwen3p8-27b-262k-b300"])
def test_shapes_of_this_autumn(stage: Stage, shape: str) -> None:
    answer = stage.http.get(f"/v1/{FW}/trainingShapes/{shape}")
    assert answer.status_code == 200
    assert answer.json()["name"].startswith(f"{FW}/trainingShapes/{shape.removesuffix('latest')}")


@pytest.fixture(scope="module")
def variables(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables that `ftsim serve` prints."""
    record = ServerRecord(stage.url, 1, stage.key, stage.account)
    return environment.added({}, record, hub.build(tmp_path_factory.mktemp("hub")))


@pytest.mark.parametrize(
    ("name", "markers"),
    [
        ("moonshotai/Kimi-K2.6", ("<|im_assistant|>", "<|im_middle|>", "<|tool_calls_section_begin|>", "<think>")),
        (
            "deepseek-ai/DeepSeek-V3.1",
            ("<｜Assistant｜>", "<｜end▁of▁sentence｜>", "<｜tool▁calls▁begin｜>", "</think>"),
        ),
        ("zai-org/GLM-5.1", ("[gMASK]", "<sop>", "<|assistant|>", "<|observation|>", "<arg_key>")),
    ],
)
def test_the_variables_that_are_printed_find_each_familys_tokenizer(
    variables: dict[str, str], name: str, markers: tuple[str, ...]
) -> None:
    (revision,) = (Path(variables["HF_HUB_CACHE"]) / f"models--{name.replace('/', '--')}" / "refs").iterdir()
    folder = revision.parent.parent / "snapshots" / revision.read_text()
    spoken = AutoTokenizer.from_pretrained(folder)
    for marker in markers:
        assert len(spoken.encode(marker, add_special_tokens=False)) == 1, marker
    asked = [{"role": "user", "content": "Hi"}]
    ids = spoken.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
    assert spoken.decode(ids).startswith(spoken.apply_chat_template(asked, tokenize=False))


def test_the_printed_key_of_tinker(stage: Stage, variables: dict[str, str]) -> None:
    assert variables["TINKER_API_KEY"].startswith("tml-")
    for key in (variables["TINKER_API_KEY"], variables["FIREWORKS_API_KEY"]):
        url = f"{variables['TINKER_BASE_URL']}/api/v1/create_session"
        answer = httpx.post(url, json={}, headers={"X-API-Key": key}, trust_env=False)
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [("datasets", 501, 12), ("datasets/d1:upload", 501, 12), ("supervisedFineTuningJobs", 400, 9), ("dpoJobs", 400, 9)],
)
def test_data_sets_and_managed_jobs(stage: Stage, path: str, status: int, code: int) -> None:
    account = f"/v1/accounts/{stage.account}"
    refused = stage.http.post(f"{account}/{path}", json={"baseModel": BASE, "datasetId": "d1"})
    assert (refused.status_code, refused.json()["code"]) == (status, code)
    collection = path.partition("/")[0]
    assert stage.http.get(f"{account}/{collection}").json()[collection] == []
