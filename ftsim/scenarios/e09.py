"""The client notes that a base was saved, whether or not it was loaded."""

from typing import Any

from ftsim.scenarios import serving
from ftsim.scenarios.report import Report, claim, refusal, still_upstream
from ftsim.scenarios.stage import BASE, Stage, train

ID = "E9"
TITLE = "the first load fails, and the next save is a delta that is sent as if it were whole"
UPSTREAM = "fireworks-ai 1.2.28"


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    serving.deploy(stage)
    weights = serving.syncer(stage, client)
    stage.quirks.set("hotload.fail_next", True, times=1)
    train(client, 0)
    refusal(serving.sync, stage, weights, "one")
    train(client, 1)
    error = refusal(serving.sync, stage, weights, "two")
    sent = serving.asked(stage)
    metadata = ["incremental_snapshot_metadata" in body for body in sent]
    kinds = [row.kind.value.rpartition("INFERENCE_")[2] for row in stage.truth("job-1")]
    seen = kinds == ["BASE", "ARC_V2"] and metadata == [False, False]
    still_upstream(UPSTREAM, seen, f"saved {kinds}, metadata sent {metadata}")
    why = serving.told(stage)
    managed = _managed(stage, client)
    still_upstream(UPSTREAM, managed == (False, False), f"the managed path sent metadata {managed}")
    weights.reset_delta_chain()
    train(client, 2)
    snapshot = serving.sync(stage, weights, "three", "base")
    claim(serving.held(stage) == [snapshot], serving.told(stage))
    return Report(
        sees=[str(error).splitlines()[0], f"the replica: {why}", f"saved {', '.join(kinds)}, both loaded as whole"],
        exchanges=stage.exchanges("hot_load")[:2],
        right=[f"after a failed load forgets the chain and saves all: {snapshot} is served"],
    )


def _managed(stage: Stage, client: Any) -> tuple[bool, bool]:
    """The same through the managed path's own book-keeping: was metadata sent with the base, with the delta?"""
    from fireworks.training.sdk.managed import _TinkerSamplerBackend

    backend = _TinkerSamplerBackend(stage.deployments, serving.DEPLOYMENT, BASE)
    before = len(serving.asked(stage))
    stage.quirks.set("hotload.fail_next", True, times=1)
    for name, kind in (("managed-one", "base"), ("managed-two", "delta")):
        train(client, 3)
        snapshot = serving.save(client, name, kind)
        backend.remember_saved_snapshot(snapshot, kind)
        with serving.patient(stage):
            claim(not backend.hotload_saved_snapshot(snapshot), f"{kind} should not load")
    first, second = ("incremental_snapshot_metadata" in body for body in serving.asked(stage)[before:])
    return first, second
