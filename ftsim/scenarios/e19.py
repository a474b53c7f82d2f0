"""A PATCH without a mask may mean: everything else back to its default."""

from ftsim.scenarios import serving
from ftsim.scenarios.report import Report, claim, still_upstream
from ftsim.scenarios.stage import Stage

ID = "E19"
TITLE = "scale_to_zero sends no updateMask, and the deployment loses its trainer"
UPSTREAM = "fireworks-ai 1.2.28"


def reproduce(stage: Stage) -> Report:
    job = stage.job()
    serving.deploy(stage)
    stage.quirks.set("deployments.patch_without_mask", "replace_all")
    stage.deployments.scale_to_zero(serving.DEPLOYMENT)
    sent = stage.exchanges("patch_deployment")[-1]
    still_upstream(UPSTREAM, "updateMask" not in sent.query, f"scale_to_zero sends {sent.query!r}")
    lost = stage.deployments.get(serving.DEPLOYMENT)
    enabled = stage.http.get(f"/v1/accounts/{stage.account}/deployments/{serving.DEPLOYMENT}").json()["enableHotLoad"]
    claim(not lost.hot_load_trainer_job and not enabled, f"left: {lost.hot_load_trainer_job}, hot load {enabled}")
    serving.deploy(stage, deployment_id="dep-2")
    body = {"minReplicaCount": 0, "maxReplicaCount": 0}
    kept = stage.deployments.update("dep-2", body=body, update_mask=["min_replica_count", "max_replica_count"])
    claim(kept.hot_load_trainer_job == job.name, f"with a mask: {kept}")
    return Report(
        sees=[f"PATCH {sent.request.decode()} without updateMask",
              f"hotLoadTrainerJob was {job.name}, is {lost.hot_load_trainer_job!r}; enableHotLoad is {enabled}"],
        exchanges=[sent],
        right=[f"update() with updateMask min_replica_count,max_replica_count: still {kept.hot_load_trainer_job}"],
    )  # fmt: skip
