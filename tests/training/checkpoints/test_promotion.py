"""Promotion against a control plane that misbehaves; the SDK and its HTTP are real, the answers are ours."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import respx

from ftsim.training import promote_checkpoint
from ftsim.training.checkpoints.promotion import check_model_is_free, promote
from ftsim.training.checkpoints.rows import read_row
from ftsim.training.errors import CheckpointError, ConfigError
from ftsim.training.sdk import FireworksClient

BASE = "http://emulator.test"
ROW = read_row(
    {
        "name": "accounts/acct/rlorTrainerJobs/job/checkpoints/step-4-aaaaaaaa",
        "createTime": "2026-08-01T10:00:00.500000Z",
        "promotable": True,
    }
)
MODEL = {"name": "accounts/acct/models/mine", "state": "READY", "createTime": "2026-08-01T10:00:01Z"}
OLD = MODEL | {"createTime": "2026-08-01T09:00:00Z"}
MISSING = httpx.Response(404, json={"code": 5, "message": "no such model"})


@pytest.fixture
def plane() -> Iterator[respx.MockRouter]:
    with respx.mock(base_url=BASE, assert_all_called=False) as router:
        router.get("/v1/accounts", params={"pageSize": "2"}).respond(json={"accounts": [{"name": "accounts/acct"}]})
        yield router


@pytest.fixture
def client(plane: respx.MockRouter) -> FireworksClient:
    return FireworksClient(api_key="key", base_url=BASE)


def answers(plane: respx.MockRouter, model: list[httpx.Response], promoted: httpx.Response) -> respx.Route:
    plane.get("/v1/accounts/acct/models/mine").mock(side_effect=[*model, *[model[-1]] * 50])
    route = plane.post("/v1/accounts/acct/checkpoints/step-4-aaaaaaaa:promote").mock(return_value=promoted)
    plane.get("/v1/accounts/acct/rlorTrainerJobs/job/checkpoints").respond(json={"checkpoints": []})
    return route


def ok(model: dict[str, Any]) -> httpx.Response:
    return httpx.Response(200, json=model)


def refusal(status: int, message: str = "no") -> httpx.Response:
    return httpx.Response(status, json={"code": 9, "message": message})


def run(client: FireworksClient) -> dict[str, Any]:
    return promote(client, ROW, "mine", "base", wait_s=5, sleep=lambda _: None)


def test_a_promotion_returns_the_model(plane: respx.MockRouter, client: FireworksClient) -> None:
    route = answers(plane, [MISSING], ok({"model": MODEL}))
    assert run(client)["state"] == "READY"
    assert route.call_count == 1


def test_a_model_promoted_before_is_recognised_without_asking_again(
    plane: respx.MockRouter, client: FireworksClient
) -> None:
    """D5."""
    route = answers(plane, [ok(MODEL)], refusal(409))
    assert run(client)["name"] == MODEL["name"]
    assert route.call_count == 0


def test_a_conflict_after_a_lost_success_is_success(plane: respx.MockRouter, client: FireworksClient) -> None:
    """D6."""
    answers(plane, [MISSING, ok(MODEL)], refusal(409))
    assert run(client)["name"] == MODEL["name"]


def test_a_copy_that_outlives_the_gateway_is_waited_for(
    plane: respx.MockRouter, client: FireworksClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D7; the SDK's own five minutes of retries are cut short."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    uploading = MODEL | {"state": "UPLOADING"}
    answers(plane, [MISSING, MISSING, ok(uploading), ok(uploading), ok(MODEL)], httpx.Response(502, text="bad"))
    monkeypatch.setattr(client, "promote_checkpoint", fail_with("(HTTP 502)"))
    assert run(client)["state"] == "READY"


def fail_with(text: str) -> Any:
    def call(**_: Any) -> dict[str, Any]:
        raise RuntimeError(f"ERROR: Failed to promote {text}")

    return call


@pytest.mark.parametrize("model", [OLD, MODEL | {"importedFrom": ROW.name.replace("step-4", "step-2")}])
def test_somebody_elses_model_is_not_ours(
    plane: respx.MockRouter, client: FireworksClient, model: dict[str, Any]
) -> None:
    answers(plane, [ok(model)], refusal(409))
    with pytest.raises(CheckpointError, match="was not made from checkpoint"):
        run(client)


def test_a_model_that_names_its_checkpoint_is_ours_whatever_the_clocks_say(
    plane: respx.MockRouter, client: FireworksClient
) -> None:
    answers(plane, [ok(OLD | {"importedFrom": ROW.name})], refusal(409))
    assert run(client)["name"] == MODEL["name"]


def test_a_refusal_is_reported_at_once_with_its_reason(plane: respx.MockRouter, client: FireworksClient) -> None:
    answers(plane, [MISSING], refusal(400, "checkpoint is not promotable"))
    with pytest.raises(CheckpointError, match=r"no longer listed\).*(?s:.)*is not promotable"):
        run(client)


def test_a_bad_model_id_never_reaches_the_service(plane: respx.MockRouter, client: FireworksClient) -> None:
    """D4, D3c."""
    with pytest.raises(ConfigError):
        promote(client, ROW, "trail-", "base")
    assert plane.calls.call_count == 0


def test_a_taken_id_is_told_before_training(plane: respx.MockRouter, client: FireworksClient) -> None:
    answers(plane, [MISSING, ok(OLD)], refusal(409))
    check_model_is_free(client, "mine")
    with pytest.raises(ConfigError, match="is taken"):
        check_model_is_free(client, "mine")


# -- the script


def rows() -> list[dict[str, Any]]:
    def row(name: str, created: str, kind: str) -> dict[str, Any]:
        return {
            "name": f"accounts/acct/rlorTrainerJobs/job/checkpoints/{name}",
            "createTime": created,
            "checkpointType": f"CHECKPOINT_TYPE_{kind}",
        } | ({"promotable": True} if kind.endswith("BASE") else {})

    return [
        row("step-1-aaaaaaaa", "2026-08-01T10:00:13Z", "INFERENCE_BASE"),
        row("step-4-aaaaaaaa", "2026-08-01T10:00:13.500000Z", "INFERENCE_BASE"),
        row("step-4", "2026-08-01T10:00:14.000000Z", "TRAINING"),
        row("step-1-bbbbbbbb", "2026-08-01T09:00:00.000000Z", "INFERENCE_BASE"),
    ]


def script(monkeypatch: pytest.MonkeyPatch, plane: respx.MockRouter, *more: str, job: str = "job") -> int:
    monkeypatch.setenv("FIREWORKS_API_KEY", "key")
    monkeypatch.setenv("FIREWORKS_BASE_URL", BASE)
    plane.get("/v1/accounts/acct/rlorTrainerJobs/job/checkpoints").respond(json={"checkpoints": rows()})
    plane.get("/v1/accounts/acct/models/mine").mock(return_value=MISSING)
    return promote_checkpoint.main(["--job-id", job, "--output-model-id", "mine", "--base-model", "base", *more])


@pytest.mark.parametrize(
    ("more", "chosen"),
    [
        ([], "step-4-aaaaaaaa"),
        (["--checkpoint-name", "step-1-bbbbbbbb"], "step-1-bbbbbbbb"),
        (["--checkpoint-name", "step-4"], "step-4-aaaaaaaa"),
    ],
)
def test_the_script_promotes_the_newest_or_the_named_checkpoint(
    plane: respx.MockRouter, monkeypatch: pytest.MonkeyPatch, more: list[str], chosen: str
) -> None:
    route = plane.post(f"/v1/accounts/acct/checkpoints/{chosen}:promote").respond(json={"model": MODEL})
    assert script(monkeypatch, plane, *more, job="accounts/acct/rlorTrainerJobs/job") == 0
    assert route.call_count == 1


@pytest.mark.parametrize(
    ("name", "message"), [("step-1", "is ambiguous"), ("step-9", "is not a checkpoint of this job")]
)
def test_the_script_names_what_it_cannot_find(
    plane: respx.MockRouter,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    message: str,
) -> None:
    assert script(monkeypatch, plane, "--checkpoint-name", name) == 1
    assert message in capsys.readouterr().err


def test_the_script_needs_a_key(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("FIREWORKS_API_KEY", raising=False)
    arguments = ["--job-id", "j", "--output-model-id", "m", "--base-model", "b"]
    assert promote_checkpoint.main(arguments) == 1
    assert "FIREWORKS_API_KEY" in capsys.readouterr().err
