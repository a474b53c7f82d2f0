"""A delta is against what the trainer saved last; the deployment may hold something older."""

from ftsim.scenarios import serving
from ftsim.scenarios.report import Report, claim, refusal, still_upstream
from ftsim.scenarios.stage import Stage, train

ID = "E10"
TITLE = "a save that was never loaded breaks the chain of deltas: checksum mismatch"
UPSTREAM = "fireworks-ai 1.2.28"


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    serving.deploy(stage)
    weights = serving.syncer(stage, client)
    train(client, 0)
    base = serving.sync(stage, weights, "one")
    before = serving.weights(stage)
    train(client, 1)
    skipped = weights.save_only("two")
    train(client, 2)
    error = refusal(serving.sync, stage, weights, "three")
    said = serving.told(stage)
    sent = serving.asked(stage)[-1]["incremental_snapshot_metadata"]
    seen = sent["previous_snapshot_identity"] == base and "hecksum" in said
    still_upstream(UPSTREAM, seen, f"metadata {sent}, refused with {said!r}")
    claim(serving.weights(stage) == before, "a refused delta should leave what is served")
    delta = stage.truth("job-1")[-1]
    claim(delta.previous_snapshot == skipped, f"the delta is against {delta.previous_snapshot}")
    claim(not serving.load(stage, delta.id, serving.after(str(skipped))), "two behind should be refused")
    behind = serving.told(stage)
    whole = serving.sync(stage, weights, "four", "base")
    claim(serving.held(stage) == [whole], serving.told(stage))
    return Report(
        sees=[str(error).splitlines()[0], said, f"with the true predecessor named: {behind}"],
        exchanges=stage.exchanges("hot_load")[1:2],
        right=[f"sends a full snapshot whenever what was saved and what is held differ: {whole}"],
    )
