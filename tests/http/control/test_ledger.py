"""The ledger of hot loads, its hint, and what is checked of a snapshot before it is served (FAILURES E29, E30)."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from emulator.core.kinds import WEIGHT_SPEC as SPEC
from emulator.light import files
from emulator.platform.deployments.snapshot_checks import weight_fault
from emulator.platform.deployments.spec import DeploymentSpec
from emulator.server import Emulator
from emulator.state.entities import Checkpoint, Job
from tests.doubles import BASE

HOT_LOAD = "/hot_load/v1/models/hot_load"
HEADERS = {"fireworks-deployment": "accounts/acct1/deployments/d1", "fireworks-model": BASE}
LEDGER = "/v1/accounts/acct1/deployments/d1/ledger"
Save = Callable[..., Checkpoint]


@pytest.fixture
def job(emu: Emulator, new_job: Callable[..., Job]) -> Job:
    """A job, and a deployment d1 of two replicas that loads what it saved."""
    made = new_job("j1")
    spec = DeploymentSpec(
        base_model=BASE,
        min_replica_count=2,
        max_replica_count=2,
        enable_hot_load=True,
        hot_load_trainer_job=made.name,
        accept_shapeless_risk=True,
        skip_shape_validation=True,
        description="d",
        accelerator_type="NVIDIA_H200_141GB",
    )
    emu.platform.deployments.create(emu.account, spec, "d1")
    return made


def signal(http: httpx.Client, identity: str, **body: Any) -> httpx.Response:
    return http.post(HOT_LOAD, json={"identity": identity, **body}, headers=HEADERS)


def replicas(http: httpx.Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = http.get(HOT_LOAD, headers=HEADERS).json()["replicas"]
    return found


def base(config: dict[str, Any] | None = None) -> Callable[[Path], Path]:
    """A writer of a full snapshot whose config.json has these fields, without those that are None."""

    def write(folder: Path) -> Path:
        files.write_base(folder)
        if config:
            merged = {**json.loads((folder / "config.json").read_bytes()), **config}
            kept = {name: value for name, value in merged.items() if value is not None}
            (folder / "config.json").write_text(json.dumps(kept))
        return folder

    return write


def test_a_ledger_tells_what_was_signalled_and_is_reset(
    emu: Emulator, http: httpx.Client, job: Job, save: Save
) -> None:
    save(job, "one", base())
    save(job, "two", base({"vocab": 3}))
    assert http.get(LEDGER).json() == {"ledger": []}
    assert signal(http, "one").status_code == 200
    assert signal(http, "two").status_code == 200
    newest, oldest = http.get(LEDGER).json()["ledger"]
    assert newest["timestamp"] > oldest["timestamp"]
    told, refused = json.loads(oldest["value"]), json.loads(newest["value"])
    assert (told["identity"], told["type"], len(told["replicas"])) == ("one", "full", 2)
    assert (len(refused["replicas"]), len(refused["errors"])) == (0, 2)
    with emu.quirks.set("hotload.ledger_value", "identity", deployment="d1"):
        assert [row["value"] for row in http.get(LEDGER).json()["ledger"]] == ["two", "one"]
    assert http.delete(LEDGER).json() == {}
    assert http.get(LEDGER).json() == {"ledger": []}
    assert {pod["current_snapshot_identity"] for pod in replicas(http)} == {None}
    delta = {"previous_snapshot_identity": "one", "compression_format": "arc_v2", "checksum_format": "alder32"}
    save(job, "three", lambda folder: files.write_delta(folder, [0.0] * 4, [1.0] * 4))
    assert signal(http, "three", incremental_snapshot_metadata=delta).status_code == 200
    assert "the replica holds None" in replicas(http)[0]["loading_state"]["error"]
    assert signal(http, "one").status_code == 200
    assert {pod["current_snapshot_identity"] for pod in replicas(http)} == {"one"}


def test_a_ledger_is_of_a_deployment_that_is_there(http: httpx.Client, job: Job) -> None:
    for method in ("GET", "DELETE"):
        answer = http.request(method, LEDGER.replace("d1", "d9"))
        assert answer.status_code == 404


@pytest.mark.parametrize("date", ["2026-04", "2026-08", "2026-11"])
def test_ledger_and_hint_are_there_since_august(emu: Emulator, http: httpx.Client, job: Job, date: str) -> None:
    emu.move_to(date)
    assert emu.quirks.value("hotload.ledger", deployment="d1") == (date != "2026-04")
    there = 404 if date == "2026-04" else 200
    assert http.get(LEDGER).status_code == there
    assert http.delete(LEDGER).status_code == there
    assert http.post(f"{HOT_LOAD}/hint", json={"files": ["a"]}, headers=HEADERS).status_code == there


def test_a_hint_changes_nothing(http: httpx.Client, job: Job) -> None:
    before = replicas(http)
    assert http.post(f"{HOT_LOAD}/hint", json={"identity": "one"}, headers=HEADERS).json() == {}
    assert replicas(http) == before
    assert http.get(LEDGER).json() == {"ledger": []}
    assert http.post(f"{HOT_LOAD}/hint", json={}).status_code == 400, "it says no deployment"


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"model_type": "llama"}, "Types mismatch: the base model is a qwen3, the snapshot a llama"),
        ({"max_position_embeddings": None}, "Extra base model config options: max_position_embeddings"),
        ({"rope_theta": 1.0}, "Extra snapshot model config options: rope_theta"),
        ({"max_position_embeddings": 7}, "Config value mismatch for max_position_embeddings: "),
        ({"quantization_config": {"quant_method": "fp8"}}, f"quantization_config without a tensor_map in {SPEC}"),
    ],
)
def test_a_snapshot_with_another_configuration_is_refused(
    emu: Emulator, http: httpx.Client, job: Job, save: Save, config: dict[str, Any], says: str
) -> None:
    save(job, "good", base({"torch_dtype": "bfloat16", "transformers_version": "9"}))
    save(job, "odd", base(config))
    assert signal(http, "good").status_code == 200
    assert signal(http, "odd").status_code == 200, "where the text is delivered is a switch: here in the status"
    for pod in replicas(http):
        assert pod["current_snapshot_identity"] == "good"
        assert pod["loading_state"]["stage"] == "error"
        assert pod["loading_state"]["error"].startswith(says)
    with emu.quirks.set("hotload.checked_in", "answer", deployment="d1"):
        answer = signal(http, "odd")
    assert (answer.status_code, answer.json()["message"].startswith(says)) == (400, True)


@pytest.mark.parametrize("config", [{"rope_theta": 1.0}, {"max_position_embeddings": None}])
def test_extra_fields_are_ignored_when_they_are_named(
    http: httpx.Client, job: Job, save: Save, config: dict[str, Any]
) -> None:
    save(job, "odd", base(config))
    assert signal(http, "odd", validation={"extra_fields_ignore": ["other"]}).status_code == 200
    assert replicas(http)[0]["loading_state"]["stage"] == "error"
    assert signal(http, "odd", validation={"extra_fields_ignore": list(config)}).status_code == 200
    assert {pod["current_snapshot_identity"] for pod in replicas(http)} == {"odd"}


def test_an_identity_is_one_name(http: httpx.Client, job: Job) -> None:
    answer = signal(http, "a/b")
    assert (answer.status_code, "must not contain a slash" in answer.text) == (400, True)


def test_a_weight_map_is_covered_and_that_of_a_delta_is_its_parents(tmp_path: Path) -> None:
    whole, delta = tmp_path / "whole", tmp_path / "delta"
    for folder in (whole, delta):
        folder.mkdir()
    files.write_base(whole)
    files.write_delta(delta, [0.0] * 4, [1.0] * 4)
    assert weight_fault(whole) is None
    assert weight_fault(delta, whole) is None
    (whole / SPEC).write_text(json.dumps({"tensor_map": {}}))
    assert str(weight_fault(whole)).startswith(f"{SPEC} does not cover the weight map: ")
    (whole / SPEC).unlink()
    files.write_safetensors(whole / "model.safetensors", {"other": ("F32", [4, 1], files.pack([0.0] * 4))})
    assert str(weight_fault(delta, whole)).startswith("weight map mismatch in model.safetensors: ")
    (whole / "model.safetensors").rename(whole / "model-00001-of-00001.safetensors")
    assert str(weight_fault(delta, whole)).startswith("file count mismatch: ")
    (delta / "model.safetensors").write_bytes(b"torn")
    assert str(weight_fault(delta, whole)).startswith("the weights are not whole: ")
