"""A fresh replica may still show the error of the load before it."""

from ftsim.scenarios import serving
from ftsim.scenarios.report import Report, claim
from ftsim.scenarios.stage import BASE, Stage, train

ID = "E3"
TITLE = "after a re-attach the status shows an error about an older snapshot"


def reproduce(stage: Stage) -> Report:
    first, second = stage.client(), stage.client("job-2")
    serving.deploy(stage)
    train(first, 0)
    claim(serving.load(stage, serving.save(first, "one")), "the first load should succeed")
    stage.quirks.set("hotload.stale_error_reads", 3)
    with serving.patient(stage):
        stage.deployments.reattach_trainer(
            serving.DEPLOYMENT, base_model=BASE, trainer_job_name=stage.job_name("job-2"), timeout_s=60
        )
    train(second, 0)
    wanted = serving.save(second, "two")
    state = serving.replicas(stage)[0]["loading_state"]
    claim(state["stage"] == "error" and state["target_snapshot_identity"] != wanted, f"the status shows {state}")
    loaded = serving.load(stage, wanted)
    claim(loaded and serving.held(stage) == [wanted], f"not loaded: {serving.told(stage)}")
    return Report(
        sees=[f"before anything was sent to the new replica: {state}", "a client that stops at stage=error gives up"],
        exchanges=stage.exchanges("hot_load_status")[-3:],
        right=[f"an error counts only when it is about {wanted}; the SDK waits on, and it is loaded"],
    )
