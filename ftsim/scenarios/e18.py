"""A re-attach in the middle of a load: nobody promised what becomes of the load."""

from ftsim.scenarios import serving
from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import BASE, Stage, train

ID = "E18"
TITLE = "a re-attach while a snapshot loads: the load is lost"


def reproduce(stage: Stage) -> Report:
    first, second = stage.client(), stage.client("job-2")
    serving.deploy(stage)
    train(first, 0)
    train(second, 0)
    lost, kept = serving.save(first, "one"), serving.save(second, "two")
    stage.quirks.set("hotload.duration_s", 60.0)
    stage.deployments.hotload(serving.DEPLOYMENT, BASE, lost)
    other = {"body": {"hotLoadTrainerJob": stage.job_name("job-2")}, "update_mask": "hot_load_trainer_job"}
    with stage.quirks.set("deployments.patch_during_load", "reject"):
        rejected = refusal(stage.deployments.update, serving.DEPLOYMENT, **other)
    said = stage.exchanges("patch_deployment")[0].answer["message"]
    claim("is loading a snapshot" in said, f"{rejected}: {said}")
    stage.deployments.update(serving.DEPLOYMENT, **other)
    stage.clock.advance(61)
    (replica,) = serving.replicas(stage)
    claim(replica["current_snapshot_identity"] is None, f"the load should be lost with its replica: {replica}")
    with serving.patient(stage):
        waited = stage.deployments.wait_for_hotload(serving.DEPLOYMENT, BASE, lost, timeout_seconds=300)
    claim(not waited, "the client that asked for the load should wait in vain")
    stage.deployments.hotload(serving.DEPLOYMENT, BASE, kept)
    took = serving.everywhere(stage, kept)
    back = {"body": {"hotLoadTrainerJob": stage.job_name("job-1")}, "update_mask": "hot_load_trainer_job"}
    stage.deployments.update(serving.DEPLOYMENT, **back)
    return Report(
        sees=[f"where it is accepted: {lost} is never there, wait_for_hotload gives False after 300 s",
              f"where it is not: {said}"],
        exchanges=stage.exchanges("hot_load", "patch_deployment")[:3],
        right=[f"one owner per deployment: lets the load end ({took:.0f} s), and only then attaches another trainer"],
    )  # fmt: skip
