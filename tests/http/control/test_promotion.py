"""Promotion: from a row to a model that everybody can read (WIRE 1.10, 1.11, 4.3, 5.7; FAILURES D)."""

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fireworks import Fireworks
from fireworks.training.sdk import FireworksClient

from emulator.backend import SavedState
from emulator.core.errors import StorageFailed
from emulator.core.names import CheckpointScope
from emulator.platform.checkpoints.checkpoints import Origin
from emulator.server import Emulator
from emulator.state.entities import Checkpoint, Job, Session
from tests.doubles import (
    BASE,
    MOE,
    pack,
    read_tensors,
    write_adapter,
    write_base,
    write_delta,
    write_safetensors,
    write_training,
)

NewJob = Callable[..., Job]
Save = Callable[..., Checkpoint]
PROMOTE = "/v1/accounts/acct1/checkpoints/{}:promote"
MODELS = "/v1/accounts/acct1/models"


def a_delta(folder: Path) -> Path:
    return write_delta(folder, [0.0] * 4, [1.0] * 4)


def body(model: str = "m1", **changes: Any) -> dict[str, Any]:
    asked = {
        "output_model": f"accounts/acct1/models/{model}",
        "trainer_job_id": "accounts/acct1/rlorTrainerJobs/j1",
        "base_model": BASE,
        **changes,
    }
    return {key: value for key, value in asked.items() if value is not None}


def files(emu: Emulator) -> set[str]:
    """Every blob folder, staged ones too."""
    return {str(path.relative_to(emu.platform.blobs.root)) for path in emu.platform.blobs.root.glob("*/*/*")}


def test_a_base_row_becomes_a_base_model(
    client: FireworksClient, http: httpx.Client, new_job: NewJob, save: Save
) -> None:
    row = save(new_job(), "step-1", lambda folder: write_base(folder, [1.0, 2.0, 3.0, 4.0]), step=1)
    model = client.promote_checkpoint(name=row.name, output_model_id="m1", base_model=BASE)
    assert (model["kind"], model["state"], model["name"]) == ("HF_BASE_MODEL", "READY", "accounts/acct1/models/m1")
    assert model["baseModelDetails"]["moe"] is False
    assert "peftDetails" not in model
    assert http.get(f"{MODELS}/m1").json() == model
    assert client.model_is_moe(model["name"]) is False


def test_an_adapter_row_becomes_an_add_on(client: FireworksClient, new_job: NewJob, save: Save) -> None:
    row = save(new_job(lora_rank=8), "step-1", write_adapter)
    model = client.promote_checkpoint(name=row.name, output_model_id="m1", base_model=BASE)
    assert model["kind"] == "HF_PEFT_ADDON"
    assert model["peftDetails"] == {"baseModel": BASE, "r": 8, "targetModules": ["q_proj"]}


@pytest.mark.parametrize("reads", [0, 1])
def test_a_promotion_can_be_an_operation(
    emu: Emulator, client: FireworksClient, new_job: NewJob, save: Save, monkeypatch: pytest.MonkeyPatch, reads: int
) -> None:
    row = save(new_job(), "step-1", write_base)
    emu.quirks.set("promote.async", "operation")
    emu.quirks.set("operations.pending_reads", reads)
    slept: list[float] = []
    monkeypatch.setattr("fireworks.training.sdk.fireworks_client.time.sleep", slept.append)
    model = client.promote_checkpoint(name=row.name, output_model_id="m1", base_model=BASE)
    assert (model["state"], "@type" in model, slept) == ("READY", False, [10] * (2 * reads))


def test_a_client_that_does_not_know_operations_gets_the_model(
    emu: Emulator, http: httpx.Client, new_job: NewJob, save: Save
) -> None:
    save(new_job(), "step-1", write_base)
    emu.quirks.set("promote.async", "operation")
    assert set(http.post(PROMOTE.format("step-1"), json=body()).json()) == {"model"}


def test_a_server_that_does_not_know_operations_is_asked_again(
    emu: Emulator, client: FireworksClient, new_job: NewJob, save: Save
) -> None:
    row = save(new_job(), "step-1", write_base)
    emu.quirks.set("promote.async", "unsupported")
    assert client.promote_checkpoint(name=row.name, output_model_id="m1", base_model=BASE)["state"] == "READY"


@pytest.mark.parametrize(("ends_with", "says"), [("error", "interrupted"), ("nothing", "without a model")])
def test_an_operation_can_end_badly(
    emu: Emulator, client: FireworksClient, new_job: NewJob, save: Save, ends_with: str, says: str
) -> None:
    row = save(new_job(), "step-1", write_base)
    emu.quirks.set("promote.async", "operation")
    emu.quirks.set("operations.ends_with", ends_with)
    with pytest.raises(RuntimeError, match=says):
        client.promote_checkpoint(name=row.name, output_model_id="m1", base_model=BASE)


@pytest.mark.parametrize("style", ["statusMessage", "status_message", "value"])
def test_a_pending_operation_spells_its_status(
    emu: Emulator, http: httpx.Client, new_job: NewJob, save: Save, style: str
) -> None:
    save(new_job(), "step-1", write_base)
    emu.quirks.set("promote.async", "operation")
    emu.quirks.set("promote.duration_s", 60.0)
    emu.quirks.set("operations.metadata_style", style)
    operation = http.post(PROMOTE.format("step-1"), json=body(async_promotion=True)).json()["operation"]
    assert operation["done"] is False
    assert "copying step-1" in json.dumps(operation["metadata"])
    assert http.get(f"{MODELS}/m1").json()["state"] == "UPLOADING"  # FAILURES D7
    emu.clock.advance(61)
    assert http.get(f"/v1/{operation['name']}").json()["response"]["state"] == "READY"
    assert http.get(f"{MODELS}/m1").json()["state"] == "READY"


@pytest.mark.parametrize(
    ("write", "rank", "short"),
    [
        (a_delta, 0, "INFERENCE_ARC_V2"),
        (write_training, 0, "TRAINING"),
        (lambda folder: write_training(folder, rank=8), 8, "TRAINING_LORA"),
    ],
    ids=["delta", "training", "training_lora"],
)
def test_what_is_not_promotable_is_refused_with_the_call_that_would_be(
    client: FireworksClient, http: httpx.Client, new_job: NewJob, save: Save, write: Any, rank: int, short: str
) -> None:
    job = new_job(lora_rank=rank)
    row = save(job, "step-1", write)
    with pytest.raises(RuntimeError, match="HTTP 400"):
        client.promote_checkpoint(name=row.name, output_model_id="m1", base_model=BASE)
    refused = http.post(PROMOTE.format("step-1"), json=body())
    assert (refused.status_code, refused.json()["code"]) == (400, 9)
    message = refused.json()["message"]
    assert f"is {short}," in message
    assert 'save_weights_for_sampler_ext(checkpoint_type="base")' in message
    assert "TrainingCheckpoints.save(promotable=True)" in message
    save(job, "step-2-0a0a0a0a", write_adapter if rank else write_base)
    assert "'step-2-0a0a0a0a'" in http.post(PROMOTE.format("step-1"), json=body()).json()["message"]


@pytest.mark.parametrize(
    ("checkpoint", "changes", "status", "code", "says"),
    [
        ("nope", {}, 404, 5, "not found"),
        ("step-1", {"trainer_job_id": "accounts/acct1/rlorTrainerJobs/nojob"}, 404, 5, "not found"),
        ("step-1", {"trainer_job_id": "j1"}, 400, 3, "invalid resource name"),
        ("step-1", {"trainer_job_id": "accounts/acct1/trainingSessions/j1"}, 400, 3, "rlorTrainerJobs"),
        ("step-1", {"trainer_job_id": "accounts/acct2/rlorTrainerJobs/j1"}, 400, 3, "another account"),
        ("step-1", {"trainer_job_id": None}, 400, 3, "trainer_job_id is required"),
        ("step-1", {"base_model": MOE}, 400, 3, BASE),
        ("step-1", {"base_model": "qwen3-8b"}, 400, 3, "invalid resource name"),
        ("step-1", {"base_model": None}, 400, 3, "base_model is required"),
        ("step-1", {"output_model": "accounts/acct1/models/Bad_Id"}, 400, 3, "model id"),
        ("step-1", {"output_model": "accounts/acct1/models/" + "x" * 64}, 400, 3, "model id"),
        ("step-1", {"output_model": "accounts/acct1/models/../up"}, 400, 3, "invalid resource name"),
        ("step-1", {"output_model": "accounts/fireworks/models/mine"}, 400, 3, "account"),
        ("step-1", {"output_model": "mine"}, 400, 3, "invalid resource name"),
        ("step-1", {"output_model": 7}, 400, 3, "output_model"),
        ("step-1", {"output_model": "accounts/acct1/models/taken"}, 409, 6, "already exists"),
        ("step-1", {"hot_load_deployment_id": "d1"}, 400, 3, "deployments"),
        ("step-1", {"async_promotion": "perhaps"}, 400, 3, "async_promotion"),
    ],
)
def test_a_bad_promotion_is_refused_and_leaves_nothing(
    emu: Emulator,
    http: httpx.Client,
    new_job: NewJob,
    save: Save,
    checkpoint: str,
    changes: dict[str, Any],
    status: int,
    code: int,
    says: str,
) -> None:
    save(new_job(), "step-1", write_base)
    assert http.post(PROMOTE.format("step-1"), json=body("taken")).status_code == 200
    before, models = files(emu), len(emu.world.models)
    answer = http.post(PROMOTE.format(checkpoint), json=body(**changes))
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert says in answer.json()["message"]
    assert (files(emu), len(emu.world.models)) == (before, models)


def test_a_blob_that_does_not_open_is_refused_and_leaves_nothing(
    emu: Emulator, http: httpx.Client, new_job: NewJob, save: Save
) -> None:
    def of_another_architecture(folder: Path) -> None:
        write_base(folder)
        write_safetensors(folder / "model.safetensors", {"other": ("F32", [4, 1], pack([0.0] * 4))})

    save(new_job(), "step-1", of_another_architecture)
    before = files(emu)
    answer = http.post(PROMOTE.format("step-1"), json=body())
    assert (answer.status_code, answer.json()["code"]) == (400, 9)
    assert "does not open" in answer.json()["message"]
    assert (files(emu), len(emu.world.models)) == (before, 0)


def test_a_blob_that_was_cut_short_since_is_refused(
    emu: Emulator, http: httpx.Client, new_job: NewJob, save: Save
) -> None:
    row = save(new_job(), "step-1", write_base)
    shard = emu.platform.checkpoints.folder(row) / "model.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    answer = http.post(PROMOTE.format("step-1"), json=body())
    assert answer.status_code == 400
    assert "model.safetensors is not what was saved" in answer.json()["message"]
    assert len(emu.world.models) == 0


def test_a_store_that_fails_leaves_neither_model_nor_files(
    emu: Emulator, http: httpx.Client, new_job: NewJob, save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(new_job(), "step-1", write_base)
    before = files(emu)

    def full(*_: object, **__: object) -> None:
        raise StorageFailed("no space left on the disk")

    with monkeypatch.context() as patch:
        patch.setattr(emu.world.store, "write", full)
        answer = http.post(PROMOTE.format("step-1"), json=body())
    assert (answer.status_code, "no space" in answer.json()["message"]) == (507, True)
    assert (files(emu), http.get(f"{MODELS}/m1").status_code) == (before, 404)
    assert http.post(PROMOTE.format("step-1"), json=body()).status_code == 200


def test_the_same_source_can_be_promoted_to_the_same_model_again_where_a_quirk_says_so(
    emu: Emulator, http: httpx.Client, new_job: NewJob, save: Save
) -> None:
    job = new_job()
    save(job, "step-1", write_base)
    save(job, "step-2", write_base)
    first = http.post(PROMOTE.format("step-1"), json=body()).json()
    emu.quirks.set("promote.on_existing", "same_source_ok")
    assert http.post(PROMOTE.format("step-1"), json=body()).json() == first
    assert http.post(PROMOTE.format("step-2"), json=body()).status_code == 409


def test_a_blob_can_be_gone_behind_a_listed_row(
    emu: Emulator, client: FireworksClient, new_job: NewJob, save: Save
) -> None:
    row = save(new_job(), "step-1", write_base)
    emu.quirks.set("promote.blob", "missing", times=1)
    with pytest.raises(RuntimeError, match='checkpoint "step-1" not found in GCS'):
        client.promote_checkpoint(name=row.name, output_model_id="m1", base_model=BASE)
    assert client.promote_checkpoint(name=row.name, output_model_id="m1", base_model=BASE)["state"] == "READY"


def test_a_bad_model_id_can_cost_the_blob(emu: Emulator, http: httpx.Client, new_job: NewJob, save: Save) -> None:
    save(new_job(), "step-1", write_base)
    emu.quirks.set("promote.blob", "orphaned_after_bad_id", times=1)
    assert http.post(PROMOTE.format("step-1"), json=body("Bad")).status_code == 400
    again = http.post(PROMOTE.format("step-1"), json=body())
    assert (again.status_code, again.json()["message"]) == (404, 'checkpoint "step-1" not found in GCS')


def test_other_switches_of_a_promotion(emu: Emulator, http: httpx.Client, new_job: NewJob, save: Save) -> None:
    save(new_job(), "step-1", write_base)
    with emu.quirks.set("rows.promotable_flips", True, times=1):
        assert http.post(PROMOTE.format("step-1"), json=body()).json()["code"] == 9
    with emu.quirks.set("models.id_rule", "dns_label"):
        assert http.post(PROMOTE.format("step-1"), json=body("-lead")).status_code == 400
    assert http.post(PROMOTE.format("step-1"), json=body("-lead")).status_code == 200
    with emu.quirks.set("jobs.legacy_bucket", True, job="j1"):
        assert http.post(PROMOTE.format("step-1"), json=body("m2")).status_code == 404
        named = body("m2", hot_load_deployment_id="accounts/acct1/deployments/d1")
        assert http.post(PROMOTE.format("step-1"), json=named).status_code == 200
    with emu.quirks.set("promote.base_model", "inferred"):
        assert http.post(PROMOTE.format("step-1"), json=body("m3", base_model=None)).status_code == 200


def test_promotion_outlives_the_trainer(emu: Emulator, client: FireworksClient, new_job: NewJob, save: Save) -> None:
    row = save(new_job(), "step-1", write_base)
    emu.platform.jobs.delete("acct1", "j1")
    emu.clock.advance(29 * 24 * 3600)
    assert len(client.list_checkpoints("j1")) == 1
    assert client.promote_checkpoint(name=row.name, output_model_id="m1", base_model=BASE)["state"] == "READY"
    emu.clock.advance(2 * 24 * 3600)
    with pytest.raises(RuntimeError, match="HTTP 404"):
        client.promote_checkpoint(name=row.name, output_model_id="m2", base_model=BASE)
    assert emu.platform.models.folder(emu.platform.models.get("accounts/acct1/models/m1")).is_dir()


def test_the_base_of_a_job_on_a_promoted_model_is_that_model(
    client: FireworksClient, emu: Emulator, new_job: NewJob, save: Save
) -> None:
    first = save(new_job(), "step-1", write_base)
    client.promote_checkpoint(name=first.name, output_model_id="m1", base_model=BASE)
    second = save(new_job("j2", base_model="accounts/acct1/models/m1"), "step-1", write_base)
    with pytest.raises(RuntimeError, match="accounts/acct1/models/m1"):
        client.promote_checkpoint(name=second.name, output_model_id="m2", base_model=BASE)
    client.promote_checkpoint(name=second.name, output_model_id="m2", base_model="accounts/acct1/models/m1")
    assert emu.platform.models.root("accounts/acct1/models/m2") == BASE


def test_a_session_row_is_promoted_through_its_own_route(
    emu: Emulator, client: FireworksClient, save: Save, new_job: NewJob
) -> None:
    owner = "accounts/acct1/trainingSessions/ts-1"
    staged = emu.platform.blobs.stage()
    write_adapter(staged)
    now = emu.clock.now()
    with emu.world.change():
        emu.world.sessions.put(Session("acct1", "ts-1", now, now))
    row = emu.platform.checkpoints.save(
        Origin(CheckpointScope(owner), BASE, 8, "m0", "test"), "run-a", staged, SavedState(1)
    )
    (listed,) = client.list_training_session_checkpoints(owner)
    assert listed["name"] == row.name
    model = client.promote_session_checkpoint(listed["name"], "m1", BASE)
    assert model["kind"] == "HF_PEFT_ADDON"
    with pytest.raises(RuntimeError, match="session checkpoint"):
        client.promote_session_checkpoint(f"{owner}/checkpoints/nope", "m2", BASE)


def test_the_old_way_of_naming_a_checkpoint_still_works(client: FireworksClient, new_job: NewJob, save: Save) -> None:
    save(new_job(), "step-1", write_base)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert client.promote_checkpoint("j1", "step-1", "m1", BASE)["state"] == "READY"


@pytest.fixture
def generic(emu: Emulator) -> Iterator[Fireworks]:
    with Fireworks(api_key=emu.api_key, base_url=emu.url, account_id="acct1") as client:
        yield client


def test_a_promoted_model_is_downloaded_by_signed_links(
    emu: Emulator, generic: Fireworks, client: FireworksClient, new_job: NewJob, save: Save, tmp_path: Path
) -> None:
    row = save(new_job(), "step-1", lambda folder: write_base(folder, [1.0, 2.0, 3.0, 4.0]))
    client.promote_checkpoint(name=row.name, output_model_id="m1", base_model=BASE)
    links = generic.models.get_download_endpoint("m1").filename_to_signed_urls
    assert links is not None
    assert set(links) == {"config.json", "model.safetensors"}
    for name, link in links.items():
        (tmp_path / name).write_bytes(httpx.get(link).raise_for_status().content)  # without a key
    source = emu.platform.checkpoints.folder(row)
    assert read_tensors(tmp_path / "model.safetensors") == read_tensors(source / "model.safetensors")
    link = links["config.json"]
    assert httpx.get(link.replace("config.json", "model.safetensors")).status_code == 403
    assert httpx.get(link[:-1]).status_code == 403
    assert httpx.get(link.partition("?")[0]).status_code == 401
    emu.clock.advance(3601)
    assert httpx.get(link).status_code == 403


def test_models_are_listed_changed_and_deleted(
    emu: Emulator, generic: Fireworks, client: FireworksClient, new_job: NewJob, save: Save, http: httpx.Client
) -> None:
    row = save(new_job(), "step-1", write_base)
    for name in ("m1", "m2", "m3"):
        client.promote_checkpoint(name=row.name, output_model_id=name, base_model=BASE)
    names = [model.name for model in generic.models.list(page_size=2)]
    assert names == [f"accounts/acct1/models/m{number}" for number in (1, 2, 3)]
    assert generic.models.update("m1", display_name="first").display_name == "first"
    assert [model.display_name for model in generic.models.list(filter='displayName="first"')] == ["first"]
    blob = emu.world.models.get("accounts/acct1/models/m1").blob  # type: ignore[union-attr]
    generic.models.delete("m1")
    assert http.get(f"{MODELS}/m1").status_code == 404
    assert not emu.platform.blobs.exists(blob)
    shared = httpx.delete(f"{emu.url}/v1/accounts/fireworks/models/qwen3-8b", headers={"X-Api-Key": emu.api_key})
    assert shared.status_code == 403
