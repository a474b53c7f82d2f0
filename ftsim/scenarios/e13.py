"""What was saved as what is known to the client object only, and gone with it."""

from ftsim.scenarios import serving
from ftsim.scenarios.report import Report, claim, refusal, still_upstream
from ftsim.scenarios.stage import Stage, train

ID = "E13"
TITLE = "a restarted client forgets the chain: a delta goes out as if it were whole"
UPSTREAM = "fireworks-ai 1.2.28"


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    serving.deploy(stage)
    before = serving.syncer(stage, client)
    train(client, 0)
    serving.sync(stage, before, "one")
    train(client, 1)
    delta = serving.sync(stage, before, "two")
    train(client, 2)
    serving.sync(stage, before, "three")
    reloaded = serving.load(stage, delta)  # by a new process that knows the name and not the type
    as_base = serving.told(stage)
    claim(not reloaded and "without incremental_snapshot_metadata" in as_base, as_base)
    restarted = serving.syncer(stage, client, first_checkpoint_type="delta")
    train(client, 3)
    error = refusal(serving.sync, stage, restarted, "four")
    body = serving.asked(stage)[-1]
    kind = stage.truth("job-1")[-1].kind.value
    seen = kind.endswith("ARC_V2") and "incremental_snapshot_metadata" not in body
    still_upstream(UPSTREAM, seen, f"a restarted client sent {kind} as {body}")
    said = serving.told(stage)
    train(client, 4)
    whole = serving.sync(stage, serving.syncer(stage, client), "five")
    claim(serving.held(stage) == [whole], serving.told(stage))
    return Report(
        sees=[f"an old delta by name: {as_base}", str(error).splitlines()[0], f"first_checkpoint_type='delta': {said}"],
        exchanges=stage.exchanges("hot_load")[3:4],
        right=[f"a new client sends a full snapshot first: {whole}"],
    )
