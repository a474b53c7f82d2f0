"""loading_state is null, and every look at the status fails in the client."""

from ftsim.scenarios import serving
from ftsim.scenarios.report import Report, claim, still_upstream
from ftsim.scenarios.stage import Stage, train

ID = "E5"
TITLE = "loading_state is null: an AttributeError swallowed at every poll, then a timeout"
UPSTREAM = "fireworks-ai 1.2.28"


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    serving.deploy(stage)
    train(client, 0)
    snapshot = serving.save(client, "one")
    stage.quirks.set("hotload.null_loading_state", True)
    slept = stage.time.slept
    loaded = serving.load(stage, snapshot, timeout_seconds=600)
    waited = stage.time.slept - slept
    replica = serving.replicas(stage)[0]
    claim(replica["current_snapshot_identity"] == snapshot and replica["readiness"], f"the replica shows {replica}")
    still_upstream(UPSTREAM, not loaded and waited >= 600, f"loaded at once, given up after {waited:.0f} s")
    stage_ = (replica.get("loading_state") or {}).get("stage", "unknown")
    return Report(
        sees=[f"False after {waited:.0f} s: {str(stage.deployments.last_hotload_error_message).splitlines()[0]}",
              f"all the while the replica serves {snapshot}"],
        exchanges=stage.exchanges("hot_load_status")[-1:],
        right=[f"reads null as an empty object (stage {stage_}) and finds the snapshot at its first look"],
    )  # fmt: skip
