"""A promoted model serves and deploys like any other, with the weights that were trained (WIRE 1.11, 9.13)."""

from typing import Any

import httpx
import pytest
from fireworks.training.sdk import DeploymentConfig, DeploymentManager, FireworksClient
from fireworks.training.sdk.client import FiretitanTrainingClient

from emulator import Emulator
from tests.http.inference.conftest import BASE, SHAPE, Train, attached
from tests.http.inference.test_managed import TOKENS, datum, step


def rows(http: httpx.Client, model: str) -> list[dict[str, Any]]:
    """A row for every token of the prompt and of eight that are sampled after it."""
    body = {"model": model, "prompt": TOKENS, "max_tokens": 8, "seed": 5, "ignore_eos": True, "echo": True}
    answer = http.post("/inference/v1/completions", json={**body, "logprobs": True})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["choices"][0]["logprobs"]["content"])


def promote(emulator: Emulator, client: FiretitanTrainingClient, name: str, job: str = "t1", base: str = BASE) -> str:
    """Train a step, save, promote; the model's full name."""
    step(client)
    row = client.save_weights_for_sampler_ext(name, checkpoint_type="base").snapshot_name
    FireworksClient(api_key=emulator.api_key, base_url=emulator.url).promote_checkpoint(
        name=f"{attached(emulator, job)}/checkpoints/{row}", output_model_id=name, base_model=base
    )
    return f"accounts/{emulator.account}/models/{name}"


@pytest.mark.parametrize("lora_rank", [0, 8])
def test_a_promoted_model_serves_and_deploys_with_the_trained_weights(
    emulator: Emulator, manager: DeploymentManager, http: httpx.Client, train: Train, lora_rank: int
) -> None:
    client = train(lora_rank=lora_rank)
    for _ in range(2):
        step(client)
    row = client.save_weights_for_sampler_ext("final", checkpoint_type="base").snapshot_name
    FireworksClient(api_key=emulator.api_key, base_url=emulator.url).promote_checkpoint(
        name=f"accounts/{emulator.account}/rlorTrainerJobs/t1/checkpoints/{row}",
        output_model_id="mine",
        base_model=BASE,
    )
    mine = f"accounts/{emulator.account}/models/mine"
    manager.create_or_get(DeploymentConfig("d2", mine, deployment_shape=SHAPE, enable_hot_load=False))
    untrained = rows(http, BASE)
    for name in (mine, f"accounts/{emulator.account}/deployments/d2"):
        found = rows(http, name)
        tokens = [int(entry["token_id"]) for entry in found]
        assert tokens[: len(TOKENS)] == TOKENS
        forward = client.forward([datum(tokens)], "cross_entropy").result().loss_fn_outputs[0]["logprobs"].data
        assert [entry["logprob"] for entry in found[1:]] == pytest.approx(list(forward), abs=1e-4)
        assert max(abs(a["logprob"] - b["logprob"]) for a, b in zip(found, untrained, strict=True)) > 0.01


def test_an_adapter_is_loaded_onto_the_weights_it_was_trained_on_alone(
    emulator: Emulator, manager: DeploymentManager, http: httpx.Client, train: Train
) -> None:
    mine = promote(emulator, train(), "mine")
    client = train("t2", lora_rank=4, base=mine)
    step(client)
    row = client.save_weights_for_sampler_ext("adapter", checkpoint_type="base").snapshot_name
    settings = {"deployment_shape": SHAPE, "min_replica_count": 1, "hot_load_trainer_job": attached(emulator, "t2")}
    for name, base in (("d1", BASE), ("d2", mine)):
        manager.create_or_get(DeploymentConfig(name, base, **settings))
    assert not manager.hotload_and_wait("d1", BASE, row)
    (pod,) = manager.hotload_check_status("d1", BASE)["replicas"]
    assert f"adapter on {mine}" in pod["loading_state"]["error"]
    assert manager.hotload_and_wait("d2", mine, row)
    found = rows(http, f"accounts/{emulator.account}/deployments/d2")
    tokens = [int(entry["token_id"]) for entry in found]
    forward = client.forward([datum(tokens)], "cross_entropy").result().loss_fn_outputs[0]["logprobs"].data
    assert [entry["logprob"] for entry in found[1:]] == pytest.approx(list(forward), abs=1e-4)


@pytest.mark.parametrize("lora_rank", [0, 4])
def test_a_model_is_not_deleted_under_a_deployment(
    emulator: Emulator, manager: DeploymentManager, http: httpx.Client, train: Train, lora_rank: int
) -> None:
    mine = promote(emulator, train(), "mine")
    deployed = promote(emulator, train("t2", lora_rank, mine), "child", "t2", mine) if lora_rank else mine
    manager.create_or_get(DeploymentConfig("d2", deployed, deployment_shape=SHAPE, enable_hot_load=False))
    refused = http.delete(f"/v1/{mine}")
    assert (refused.status_code, "deployments/d2: delete the deployment first" in refused.text) == (400, True)
    http.delete(f"/v1/accounts/{emulator.account}/deployments/d2")
    assert http.delete(f"/v1/{mine}").status_code == 200


def test_an_adapter_is_not_served_once_the_model_beneath_it_is_deleted(
    emulator: Emulator, http: httpx.Client, train: Train
) -> None:
    mine = promote(emulator, train(), "mine")
    child = promote(emulator, train("t2", 4, mine), "child", "t2", mine)
    rows(http, child)
    http.delete(f"/v1/{mine}")
    answer = http.post("/inference/v1/completions", json={"model": child, "prompt": TOKENS})
    assert (answer.status_code, f"{mine}' not found" in answer.text) == (400, True)


@pytest.mark.parametrize("lora_rank", [0, 4])
def test_a_model_is_used_once_it_is_ready(emulator: Emulator, http: httpx.Client, train: Train, lora_rank: int) -> None:
    emulator.quirks.set("promote.duration_s", 60.0)
    mine = promote(emulator, train(lora_rank=lora_rank), "mine")
    uses = {
        "/inference/v1/completions": {"model": mine, "prompt": TOKENS, "max_tokens": 1},
        f"/v1/accounts/{emulator.account}/deployments?deploymentId=d1": {"baseModel": mine, "deploymentShape": SHAPE},
        f"/v1/accounts/{emulator.account}/rlorTrainerJobs?rlorTrainerJobId=t2": {"trainingConfig": {"baseModel": mine}},
    }
    early = [http.post(url, json=body) for url, body in uses.items()]
    assert [(answer.status_code, "is UPLOADING" in answer.text) for answer in early] == [(400, True)] * 3
    emulator.clock.advance(61)
    ready = [http.post(url, json=body).status_code for url, body in uses.items()]
    assert ready == [200, 200, 400 if lora_rank else 200]  # no job trains on an adapter


def test_a_model_outlives_the_one_it_was_trained_from(
    emulator: Emulator, manager: DeploymentManager, http: httpx.Client, train: Train
) -> None:
    mine = promote(emulator, train(), "mine")
    child = promote(emulator, train("t2", base=mine), "child", "t2", mine)
    before = rows(http, child)
    assert http.delete(f"/v1/{mine}").status_code == 200
    manager.create_or_get(DeploymentConfig("d1", child, deployment_shape=SHAPE, enable_hot_load=False))
    assert rows(http, f"accounts/{emulator.account}/deployments/d1") == before
