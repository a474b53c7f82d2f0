"""Deployments are refused for reasons that depend on the account."""

from typing import Any

from ftsim.scenarios import serving
from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import BASE, Stage

ID = "E22"
TITLE = "creating a deployment is refused: forTraining, description, a bare shape id, no shape at all"
MODEL = "accounts/fireworks/models/qwen3-4b"


def reproduce(stage: Stage) -> Report:
    shaped = {"baseModel": MODEL, "description": "rollouts", "deploymentShape": serving.SHAPE, "enableHotLoad": True}
    with stage.quirks.set("deployments.private_shapes", True):
        private = _create(stage, shaped)
        right = _create(stage, {**shaped, "forTraining": True}, "right")
    with stage.quirks.set("deployments.require_description", True):
        nameless = _create(stage, {**shaped, "description": ""})
    bare = _create(stage, {**shaped, "deploymentShape": "ds-qwen3-4b"})
    none = _create(stage, {"baseModel": BASE, "description": "rollouts"})
    refused = [private, nameless, bare, none]
    said = [answer.json()["message"] for answer in refused]
    claim([answer.status_code for answer in refused] == [400] * 4, f"{said}")
    claim(right.status_code == 200, right.text)
    managed = refusal(_managed, stage)
    claim(isinstance(managed, ValueError) and "without a deployment shape" in str(managed), f"{managed!r}")
    with stage.quirks.set("deployments.require_description", True):
        named = stage.deployments.create_or_get(serving.config(stage, None, deployment_id="named"))
    claim(named.state == "READY", "the SDK always sends a description")
    return Report(
        sees=[*(text[:160] for text in said), f"the managed path without a shape: {managed}"],
        exchanges=stage.exchanges("create_deployment")[:1],
        right=["sends forTraining, a description and the shape's full name, and is served"],
    )


def _create(stage: Stage, body: dict[str, Any], identifier: str = "dep-1") -> Any:
    return stage.http.post(f"/v1/accounts/{stage.account}/deployments", params={"deploymentId": identifier}, json=body)


def _managed(stage: Stage) -> None:
    from fireworks.training.sdk.managed import _create_or_reattach_deployment, _ManagedTinkerConfig

    config = _ManagedTinkerConfig(base_model=BASE)
    _create_or_reattach_deployment(
        stage.deployments, config, trainer_job_name=stage.job_name("job-1"), deployment_shape=None
    )
