"""A replica answers healthz before it can take weights; what comes too early kills it."""

from ftsim.scenarios import serving
from ftsim.scenarios.report import Report, claim
from ftsim.scenarios.stage import BASE, Stage, train

ID = "E8"
TITLE = "a load sent before the hot-load manager is up crashes the replica"


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    train(client, 0)
    snapshot = serving.save(client, "one")
    stage.quirks.set("hotload.manager_ready_after_s", 60.0)
    serving.deploy(stage)
    state = stage.deployments.get(serving.DEPLOYMENT).state
    claim(state == "READY" and serving.replicas(stage) == [], f"{state} with {serving.replicas(stage)}")
    stage.deployments.hotload(serving.DEPLOYMENT, BASE, snapshot)
    early = stage.exchanges("hot_load")
    broken = stage.deployments.get(serving.DEPLOYMENT).state
    stage.clock.advance(61)
    error = serving.told(stage)
    claim(broken == "FAILED" and "crashed" in error, f"{broken}: {error}")
    with serving.patient(stage):
        serving.deploy(stage)  # a failed deployment is made anew
        weights = serving.syncer(stage, client)
        slept = stage.time.slept
        weights.wait_for_hotload_ready()
        loaded = weights.hotload(snapshot, "base")
    claim(loaded and serving.held(stage) == [snapshot], serving.told(stage))
    return Report(
        sees=[f"the deployment is {state}, the load is sent, the deployment is {broken}", error],
        exchanges=early,
        right=[f"waits until the status lists replicas, {stage.time.slept - slept:.0f} s, and only then loads"],
    )
