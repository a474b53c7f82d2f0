"""A re-attach replaces the replicas: first the old ones answer, then new ones with an old error."""

from ftsim.scenarios import serving
from ftsim.scenarios.report import Report, claim
from ftsim.scenarios.stage import BASE, Stage, train

ID = "E17"
TITLE = "for a while after a re-attach the old replica still answers"


def reproduce(stage: Stage) -> Report:
    first, second = stage.client(), stage.client("job-2")
    serving.deploy(stage)
    weights = serving.syncer(stage, first)
    train(first, 0)
    old = serving.sync(stage, weights, "one")
    before = serving.replicas(stage)[0]["identity"]
    stage.quirks.set("deployments.roll_s", 30.0)
    stage.quirks.set("hotload.stale_error_reads", 1)
    stage.deployments.update(
        serving.DEPLOYMENT, body={"hotLoadTrainerJob": stage.job_name("job-2")}, update_mask="hot_load_trainer_job"
    )
    (answering,) = serving.replicas(stage)
    state = stage.deployments.get(serving.DEPLOYMENT).state
    claim((answering["identity"], answering["current_snapshot_identity"], state) == (before, old, "UPDATING"),
          f"{state}: {answering}")  # fmt: skip
    with serving.patient(stage):
        info = stage.deployments.reattach_trainer(
            serving.DEPLOYMENT, base_model=BASE, trainer_job_name=stage.job_name("job-2"), timeout_s=600
        )
    (fresh,) = serving.replicas(stage)
    claim(info.state == "READY" and fresh["identity"] != before, f"{info.state}: {fresh}")
    claim(fresh["loading_state"]["target_snapshot_identity"] == old, f"{fresh['loading_state']}")
    weights = serving.syncer(stage, second)
    train(second, 0)
    new = serving.sync(stage, weights, "two")
    claim(serving.held(stage) == [new], serving.told(stage))
    roll = serving.replicas(stage)[0]["identity"]
    stage.deployments.update(
        serving.DEPLOYMENT, body={"hotLoadTransitionType": "SYNC"}, update_mask="hot_load_transition_type"
    )
    stage.clock.advance(31)
    stage.deployments.get(serving.DEPLOYMENT)
    claim(serving.replicas(stage)[0]["identity"] != roll, "another transition type should roll too")
    return Report(
        sees=[f"re-attached, {state}: {before} still serves {old}",
              f"then {fresh['identity']} shows {fresh['loading_state']}"],
        exchanges=stage.exchanges("patch_deployment")[:1],
        right=[f"waits for READY and another replica, starts the chain anew with a full snapshot: {new}"],
    )  # fmt: skip
