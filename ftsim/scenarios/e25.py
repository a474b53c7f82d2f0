"""The client gives up, the deployment does not."""

from ftsim.scenarios import serving
from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import Stage, train

ID = "E25"
TITLE = "a load succeeds after the client gave up, and the next delta refers to the snapshot before"


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    serving.deploy(stage)
    weights = serving.syncer(stage, client)
    train(client, 0)
    first = serving.sync(stage, weights, "one")
    train(client, 1)
    stage.quirks.set("hotload.duration_s", 700.0, times=1)
    gave_up = refusal(serving.sync, stage, weights, "two")
    shown = serving.held(stage)
    stage.clock.advance(700)
    (second,) = serving.held(stage)
    claim(shown == [first] and second != first, f"{shown} at the timeout, then {second}")
    train(client, 2)
    error = refusal(serving.sync, stage, weights, "three")
    named = serving.asked(stage)[-1]["incremental_snapshot_metadata"]["previous_snapshot_identity"]
    said = serving.told(stage)
    claim(named == first and "the replica holds" in said, f"{named}: {said}")
    current = weights.check_deployment_state()
    last = stage.truth("job-1")[-1]
    claim(current != last.id, "what was saved last is not what is held")
    train(client, 3)
    whole = serving.sync(stage, weights, "four", "base")
    claim(serving.held(stage) == [whole], serving.told(stage))
    return Report(
        sees=[str(gave_up).splitlines()[0], f"100 s later the deployment serves {second}", str(error).splitlines()[0],
              said],
        exchanges=stage.exchanges("hot_load")[2:3],
        right=[f"reads what is held ({current}) before the next save; it is not the last save, so a full snapshot"],
    )  # fmt: skip
