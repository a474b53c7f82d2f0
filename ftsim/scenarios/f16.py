"""The service is away for longer than the client tries."""

from ftsim.scenarios import running
from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import Stage, batch, train

ID = "F16"
TITLE = "one blip kills a run of many hours: no retry around the step"


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    checkpoints = stage.checkpoints(client)
    for step in (1, 2):
        train(client, step)
        checkpoints.save(f"step-{step}", data_consumed=step)
    stage.quirks.set("http.fail", 503, for_s=400, endpoint="forward_backward")
    slept = stage.time.slept
    with running.patient(stage):
        error = refusal(train, client, 3)
    tried = [exchange for exchange in stage.exchanges("forward_backward") if exchange.status == 503]
    waited = stage.time.slept - slept
    claim("503" in str(error) and 299 <= waited < 400, f"after {waited:.0f} s: {error!r}")
    hung = stage.client("job-2")
    with stage.quirks.set("futures.never_resolve", True, job="job-2"):
        hang = refusal(hung.forward_backward(batch(), "cross_entropy").result, timeout=0.2)
    claim(isinstance(hang, TimeoutError), f"{hang!r}")
    stage.time.sleep(120)
    running.bring_up(stage)
    again = stage.client()
    resumed = stage.checkpoints(again).resume()
    claim(resumed and resumed.step == 2, f"resumed {resumed}")
    losses = train(again, 3)
    claim(running.steps(stage, again) == 3, f"{running.steps(stage, again)} steps")
    return Report(
        sees=[f"{len(tried)} tries in {waited:.0f} s, then {type(error).__name__}: {running.first_line(error)}",
              f"or a call that hangs: {type(hang).__name__}"],
        exchanges=tried[:1],
        right=[f"waits, reconnects, resumes at step {resumed.step}, trains step 3 (loss {losses[0]:.3f})"],
    )  # fmt: skip
