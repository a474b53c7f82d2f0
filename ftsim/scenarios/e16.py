"""Setting a field to what it is changes nothing, and no replica is replaced."""

from ftsim.scenarios import serving
from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import BASE, Stage

ID = "E16"
TITLE = "a re-attach to the same trainer never settles for a client that waits for a new replica"


def reproduce(stage: Stage) -> Report:
    job = stage.job()
    serving.deploy(stage)
    before = serving.replicas(stage)[0]["identity"]
    stage.deployments.update(
        serving.DEPLOYMENT, body={"hotLoadTrainerJob": job.name}, update_mask="hot_load_trainer_job"
    )
    slept = stage.time.slept
    error = refusal(_wait_for_another, stage, before)
    claim(isinstance(error, TimeoutError), f"{error!r}")
    waited = stage.time.slept - slept
    patches = len(stage.exchanges("patch_deployment"))
    with serving.patient(stage):
        info = stage.deployments.reattach_trainer(
            serving.DEPLOYMENT, base_model=BASE, trainer_job_name=job.name, timeout_s=600
        )
    claim(info.state == "READY" and len(stage.exchanges("patch_deployment")) == patches, "the SDK patched")
    claim(stage.time.slept - slept == waited, "the SDK waited for nothing")
    return Report(
        sees=[f"{error}", f"the replica is {before} all the time"],
        exchanges=stage.exchanges("patch_deployment"),
        right=["the SDK compares first, sends no PATCH for an equal value, and waits for nothing"],
    )


def _wait_for_another(stage: Stage, identity: str, within_s: float = 600.0) -> None:
    """What a client does that takes a new replica for the sign of success."""
    waited = 0.0
    while serving.replicas(stage)[0]["identity"] == identity:
        if waited >= within_s:
            raise TimeoutError(f"no new replica within {within_s:g} s of the re-attach")
        stage.time.sleep(10)
        waited += 10
