"""Two flows of buckets exist, and mixing them is refused, or noticed late."""

from typing import Any

from ftsim.scenarios import serving
from ftsim.scenarios.report import Report, claim
from ftsim.scenarios.stage import BASE, Stage, train

ID = "E14"
TITLE = "a trainer and a deployment that read and write different buckets"


def reproduce(stage: Stage) -> Report:
    account = f"/v1/accounts/{stage.account}"
    stage.job("own-1")
    serving.deploy(stage, None)  # a bucket of its own: PER_DEPLOYMENT
    bound = stage.job("bound-1", hot_load_deployment=serving.DEPLOYMENT)
    serving.deploy(stage, "own-1", deployment_id="dep-2")  # PER_TRAINER
    body = {"baseModel": BASE, "enableHotLoad": True, "acceleratorType": "NVIDIA_H200_141GB"}
    own = stage.job_name("own-1")
    refused = [
        _create(stage, {**body, "hotLoadTrainerJob": bound.name}),
        _create(stage, {**body, "hotLoadTrainerJob": own, "hotLoadBucketUrl": "gs://else/"}),
        stage.http.patch(
            f"{account}/deployments/{serving.DEPLOYMENT}", params={"updateMask": "hot_load_bucket_url"},
            json={"hotLoadBucketUrl": "gs://else/"},
        ),
        stage.http.post(
            f"{account}/rlorTrainerJobs", params={"rlorTrainerJobId": "job-4", "deploymentId": "dep-2"},
            json={"trainingConfig": {"baseModel": BASE}},
        ),
    ]  # fmt: skip
    said = [answer.json()["message"] for answer in refused]
    claim([answer.status_code for answer in refused] == [400] * 4, f"{said}")
    claim(["mismatch" in text for text in said] == [True, False, False, True], f"{said}")
    late = _unvalidated(stage)
    client = stage.client("own-1")
    train(client, 0)
    right = serving.save(client, "right")
    manager = stage.deployments
    with serving.patient(stage):
        loaded = manager.hotload_and_wait("dep-2", BASE, right)
    claim(loaded, "a deployment attached to its trainer should load")
    return Report(
        sees=[*(text[:200] for text in said), f"without validation, at the first load: {late}"],
        exchanges=stage.exchanges("create_deployment", "patch_deployment", "create_job")[-4:],
        right=["PER_TRAINER only: the trainer first, then a deployment with hot_load_trainer_job; it loads"],
    )


def _create(stage: Stage, body: dict[str, Any], identifier: str = "dep-3") -> Any:
    query = {"deploymentId": identifier, "acceptShapelessRisk": "true"}
    return stage.http.post(f"/v1/accounts/{stage.account}/deployments", params=query, json=body)


def _unvalidated(stage: Stage) -> str:
    """The same mix-up on a server that does not look: what the load says."""
    stage.job("late-1")
    with stage.quirks.set("validation.skip", True):
        made = stage.http.post(
            f"/v1/accounts/{stage.account}/deployments", params={"deploymentId": "late", "acceptShapelessRisk": "true"},
            json={"baseModel": BASE, "enableHotLoad": True, "acceleratorType": "NVIDIA_H200_141GB"},
        )  # fmt: skip
    claim(made.status_code == 200, made.text)
    client = stage.client("late-1")
    train(client, 0)
    snapshot = serving.save(client, "lost")
    with serving.patient(stage):
        claim(not stage.deployments.hotload_and_wait("late", BASE, snapshot), "a foreign bucket should not load")
    status = stage.deployments.hotload_check_status("late", BASE)
    error = str(status["replicas"][0]["loading_state"]["error"])
    claim("not found in GCS" in error and "Bucket mismatch" in error, error)
    return error
