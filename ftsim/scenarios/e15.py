"""A deployment is used again, and the new trainer does not know of it."""

from ftsim.scenarios import serving
from ftsim.scenarios.report import Report, claim
from ftsim.scenarios.stage import BASE, Stage, train

ID = "E15"
TITLE = "a reused deployment does not accept the snapshots of a trainer that has its own bucket"


def reproduce(stage: Stage) -> Report:
    serving.deploy(stage, None)
    inside = stage.client("job-1", hot_load_deployment=serving.DEPLOYMENT)
    train(inside, 0)
    claim(serving.load(stage, serving.save(inside, "one")), serving.told(stage))
    outside = stage.client("job-2")  # made without the deployment's id
    train(outside, 0)
    snapshot = serving.save(outside, "two")
    claim(not serving.load(stage, snapshot), "the deployment should not find the snapshot")
    said, why = str(stage.deployments.last_hotload_error_message), serving.told(stage)
    claim("Bucket mismatch" in why, why)
    with serving.patient(stage):
        stage.deployments.reattach_trainer(
            serving.DEPLOYMENT, base_model=BASE, trainer_job_name=stage.job_name("job-2"), timeout_s=60
        )
    claim(serving.load(stage, snapshot) and serving.held(stage) == [snapshot], serving.told(stage))
    return Report(
        sees=[said.splitlines()[0], why],
        exchanges=stage.exchanges("hot_load", "patch_deployment")[1:],
        right=[f"points the deployment at the new trainer first (hot_load_trainer_job), then loads {snapshot}"],
    )
