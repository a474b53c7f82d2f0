"""An error that does not say which snapshot it is about is taken for an old one."""

from ftsim.scenarios import serving
from ftsim.scenarios.report import Report, claim, still_upstream
from ftsim.scenarios.stage import BASE, Stage, train

ID = "E4"
TITLE = "a load fails, the status does not say what failed: a full timeout instead of the error"
UPSTREAM = "fireworks-ai 1.2.28"


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    serving.deploy(stage)
    train(client, 0)
    snapshot = serving.save(client, "one")
    stage.quirks.set("hotload.fail_next", True)
    stage.quirks.set("hotload.error_omits_target", True)
    slept = stage.time.slept
    loaded = serving.load(stage, snapshot, timeout_seconds=600)
    waited = stage.time.slept - slept
    said = str(stage.deployments.last_hotload_error_message)
    seen = not loaded and waited >= 600 and "did not complete within 600s" in said
    still_upstream(UPSTREAM, seen, f"waited {waited:.0f} s: {said.splitlines()[0]}")
    before = serving.held(stage)[0]
    stage.deployments.hotload(serving.DEPLOYMENT, BASE, snapshot)
    failed = _failed(serving.replicas(stage)[0], snapshot, before)
    claim(failed, "a right client should see the error at its first look")
    return Report(
        sees=[f"after {waited:.0f} s: {said.splitlines()[0]}", "the replica failed at once"],
        exchanges=stage.exchanges("hot_load_status")[-1:],
        right=[f"an error without a target, after its own request and nothing newer held, is its own: {failed}"],
    )


def _failed(replica: dict[str, object], snapshot: str, before: object) -> str:
    """The error of one's own load; "" while there is none."""
    state = replica["loading_state"] or {}
    assert isinstance(state, dict)
    about = state.get("target_snapshot_identity", snapshot)
    mine = state.get("stage") == "error" and about == snapshot and replica["current_snapshot_identity"] == before
    return str(state.get("error", "failed")) if mine else ""
