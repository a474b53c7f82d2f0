"""Adapters are loaded on a deployment and unloaded, and sampled as `model#deployment`, with the trained weights."""

from collections.abc import Iterator
from typing import Any

import fireworks
import httpx
import pytest
from fireworks import Fireworks
from fireworks.training.sdk import FireworksClient

from emulator import Emulator
from tests.http.inference.conftest import BASE, SHAPE, Train, attached
from tests.http.inference.test_managed import TOKENS, datum, step
from tests.http.inference.test_promoted import rows


@pytest.fixture
def client(emulator: Emulator) -> Iterator[Fireworks]:
    with Fireworks(api_key=emulator.api_key, base_url=emulator.url, account_id=emulator.account) as client:
        yield client


def adapter(emulator: Emulator, train: Train, name: str, steps: int = 1) -> tuple[str, Any]:
    """Train a LoRA on a job of its own and promote it; the model's full name, and the training client."""
    trained = train(name, lora_rank=4)
    for _ in range(steps):
        step(trained)
    row = trained.save_weights_for_sampler_ext("final", checkpoint_type="base").snapshot_name
    FireworksClient(api_key=emulator.api_key, base_url=emulator.url).promote_checkpoint(
        name=f"{attached(emulator, name)}/checkpoints/{row}", output_model_id=name, base_model=BASE
    )
    return f"accounts/{emulator.account}/models/{name}", trained


def deployment(client: Fireworks, emulator: Emulator, name: str = "d1", **settings: Any) -> str:
    wanted = {"deployment_shape": SHAPE, "min_replica_count": 1, "enable_addons": True, **settings}
    made = client.deployments.create(base_model=BASE, deployment_id=name, **wanted)
    assert made.name == f"accounts/{emulator.account}/deployments/{name}"
    return f"accounts/{emulator.account}/deployments/{name}"


def logprobs(http: httpx.Client, model: str) -> list[float]:
    return [row["logprob"] for row in rows(http, model)[1:]]


def test_adapters_stand_beside_each_other_on_a_deployment(
    emulator: Emulator, client: Fireworks, http: httpx.Client, train: Train
) -> None:
    place = deployment(client, emulator)
    found: list[list[float]] = []
    for name, steps in (("one", 1), ("two", 3)):
        model, trained = adapter(emulator, train, name, steps)
        loaded = client.lora.load(model=model, deployment=place, display_name=name)
        assert (loaded.state, loaded.default, loaded.display_name) == ("DEPLOYED", True, name)
        answered = rows(http, f"{model}#{place}")
        tokens = [int(entry["token_id"]) for entry in answered]
        forward = trained.forward([datum(tokens)], "cross_entropy").result().loss_fn_outputs[0]["logprobs"].data
        assert [entry["logprob"] for entry in answered[1:]] == pytest.approx(list(forward), abs=1e-4)
        assert rows(http, loaded.name or "") == answered
        found.append([entry["logprob"] for entry in answered[1:]])
        (reference,) = client.models.get(name).deployed_model_refs or [None]
        assert reference is not None
        assert (reference.deployment, reference.state, reference.default) == (place, "DEPLOYED", True)
    base = logprobs(http, place)
    assert logprobs(http, f"{BASE}#{place}") == base
    assert base != found[0] != found[1] != base
    listed = [(one.model, one.deployment) for one in client.lora.list()]
    assert listed == [(f"accounts/{emulator.account}/models/{name}", place) for name in ("one", "two")]


def test_an_adapter_that_is_merged_takes_the_place_of_the_last(
    emulator: Emulator, client: Fireworks, http: httpx.Client, train: Train
) -> None:
    place = deployment(client, emulator, enable_addons=False, enable_hot_reload_latest_addon=True)
    base = logprobs(http, place)
    (one, _), (two, _) = adapter(emulator, train, "one"), adapter(emulator, train, "two", 3)
    with pytest.raises(fireworks.BadRequestError, match="send replaceMergedAddon=true"):
        client.lora.load(model=one, deployment=place)
    client.lora.load(model=one, deployment=place, replace_merged_addon=True)
    first = logprobs(http, place)
    assert first == logprobs(http, f"{one}#{place}") != base
    client.lora.load(model=two, deployment=place, replace_merged_addon=True)
    assert logprobs(http, place) == logprobs(http, f"{two}#{place}") != first
    (left,) = client.lora.list()
    assert left.model == two
    client.lora.unload((left.name or "").rpartition("/")[2])
    assert logprobs(http, place) == base


def test_what_is_loading_or_unloaded_is_not_found(
    emulator: Emulator, client: Fireworks, http: httpx.Client, train: Train
) -> None:
    emulator.quirks.set("addons.load_s", 30.0)
    place = deployment(client, emulator)
    model, _ = adapter(emulator, train, "one")
    loaded = client.lora.load(model=model, deployment=place)
    identifier = (loaded.name or "").rpartition("/")[2]
    body = {"model": f"{model}#{place}", "prompt": TOKENS, "max_tokens": 1}
    early = http.post("/inference/v1/completions", json=body)
    assert (early.status_code, "is DEPLOYING" in early.text) == (404, True)
    emulator.clock.advance(31)
    assert client.lora.get(identifier).state == "DEPLOYED"
    assert http.post("/inference/v1/completions", json=body).status_code == 200
    client.lora.unload(identifier)
    assert client.lora.get(identifier).state == "UNDEPLOYING"
    emulator.clock.advance(31)
    with pytest.raises(fireworks.NotFoundError):
        client.lora.get(identifier)
    late = http.post("/inference/v1/completions", json=body)
    assert (late.status_code, "load it with POST /deployedModels" in late.text) == (404, True)


def test_a_model_alone_means_the_deployment_where_it_is_the_default(
    emulator: Emulator, client: Fireworks, http: httpx.Client, train: Train
) -> None:
    emulator.quirks.set("models.serve_form", "deployed")
    model, _ = adapter(emulator, train, "one")
    body = {"model": model, "prompt": TOKENS, "max_tokens": 1}
    assert http.post("/inference/v1/completions", json=body).status_code == 404
    first, second = (
        client.lora.load(model=model, deployment=deployment(client, emulator, name)) for name in ("d1", "d2")
    )
    assert (first.default, second.default) == (True, False)

    def answered() -> str:
        return http.post("/inference/v1/completions", json=body).headers["fireworks-deployment"]

    assert answered() == first.deployment
    client.lora.update((second.name or "").rpartition("/")[2], default=True)
    assert [one.default for one in client.lora.list()] == [False, True]
    assert answered() == second.deployment


def test_what_does_not_fit_is_refused_by_name(emulator: Emulator, client: Fireworks, train: Train) -> None:
    model, _ = adapter(emulator, train, "one")
    plain = deployment(client, emulator, "plain", enable_addons=False)
    place = deployment(client, emulator)
    narrow = deployment(
        client,
        emulator,
        "narrow",
        deployment_shape=fireworks.omit,
        accelerator_type="NVIDIA_H200_141GB",
        precision="FP8",
    )
    refused: list[tuple[dict[str, Any], str]] = [
        ({"model": model, "deployment": plain}, "takes no add-ons: create it with enableAddons"),
        ({"model": model, "deployment": narrow}, "add-ons load on BF16 deployments"),
        ({"model": BASE, "deployment": place}, "add-ons are HF_PEFT_ADDON models"),
        ({"deployment": place}, "model is required"),
        ({"model": model}, "expected accounts/<account>/deployments/<id>"),
        ({"model": model, "deployment": place, "serverless": True}, "serverless is not supported"),
    ]
    for sent, said in refused:
        with pytest.raises(fireworks.BadRequestError, match=said):
            client.lora.load(**sent)
    with pytest.raises(fireworks.NotFoundError, match=r"deployment .* not found"):
        client.lora.load(model=model, deployment=f"{place}9")
    loaded = client.lora.load(model=model, deployment=place)
    with pytest.raises(fireworks.ConflictError, match="is loaded on"):
        client.lora.load(model=model, deployment=place)
    with pytest.raises(fireworks.BadRequestError, match=f"unload {loaded.name} first"):
        client.models.delete("one")
    with pytest.raises(fireworks.BadRequestError, match="unload it before enableAddons: false"):
        client.deployments.update("d1", base_model=BASE, enable_addons=False)
    with pytest.raises(fireworks.BadRequestError, match="unload it, and load another"):
        client.lora.update((loaded.name or "").rpartition("/")[2], model=BASE)
    client.deployments.delete("d1")
    assert not list(client.lora.list())
    client.models.delete("one")


def test_a_loaded_adapter_outlives_a_snapshot(
    emulator: Emulator, client: Fireworks, http: httpx.Client, train: Train
) -> None:
    place = deployment(client, emulator)
    model, _ = adapter(emulator, train, "one")
    client.lora.load(model=model, deployment=place)
    before = logprobs(http, f"{model}#{place}")
    kept = http.get("/_ftsim/snapshot").content
    client.deployments.delete("d1")
    assert http.put("/_ftsim/snapshot", content=kept).status_code == 200
    assert logprobs(http, f"{model}#{place}") == before
