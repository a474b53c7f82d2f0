"""A result is kept for a while only, and may be gone before it is fetched."""

from ftsim.scenarios import running
from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import Stage, train

ID = "F14"
TITLE = "410, promise expired: a step dies though the trainer is healthy"


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    checkpoints = stage.checkpoints(client)
    train(client, 0)
    checkpoints.save("step-1", data_consumed=1)
    stage.quirks.set("futures.expire_next", True, times=1, endpoint="optim_step")
    error = refusal(train, client, 1)
    claim(type(error).__name__ == "RetryableException" and "expired" in str(error), f"{error!r}")
    claim(running.state(stage) == "JOB_STATE_RUNNING" and running.steps(stage, client) == 2, "the step was taken")
    expired = [exchange for exchange in stage.exchanges("retrieve_future") if exchange.status == 410]
    again = stage.client()
    resumed = stage.checkpoints(again).resume()
    claim(resumed and resumed.step == 1, f"resumed {resumed}")
    train(again, 1)
    same = stage.live(again), stage.live(client)
    claim(running.steps(stage, again) == 2, f"{running.steps(stage, again)} steps")
    equal = all(bool((a == b).all()) for a, b in zip(*(model.model.parameters() for model in same), strict=True))
    claim(equal, "the resumed run should hold what the one without trouble holds")
    wire = running.Wire(stage)
    stage.quirks.set("futures.ttl_s", 60.0)
    request = wire.submit("optim_step", 1)
    wire.fetch(request)
    stage.clock.advance(61)
    late = wire.fetch(request)
    claim("expired" in str(late), f"{late}")
    return Report(
        sees=[f"{type(error).__name__}: {error}", f"after 60 s of keeping: {late['message']}"],
        exchanges=expired[:1],
        right=[
            f"goes back to the last checkpoint, step {resumed.step}, and trains the batch again: bit for bit the same"
        ],
    )
