"""Waiting for a row "not older than the save" ends at the row before, when text is compared and the list lags."""

from emulator.core.clock import rfc3339
from ftsim.scenarios.report import Report, claim
from ftsim.scenarios.stage import Stage, newest_as_text, train

ID = "A3"
TITLE = "a freshness test that compares text keys the cursor on the previous checkpoint"


def reproduce(stage: Stage) -> Report:
    stage.quirks.set("rows.time_precision", "mixed")
    client = stage.client()
    stage.stop_the_clock()
    client.save_state("step-10").result()
    stage.clock.advance(0.5)
    train(client, 0)
    stage.quirks.set("rows.visible_after_lists", 1, times=1)
    started = rfc3339(stage.clock.now())
    client.save_state("step-20").result()
    cursors = {_fresh_as_text(stage, started): 777}
    claim(cursors == {"step-10": 777}, f"the naive cursor file is {cursors}")

    ours = stage.client("job-2")
    checkpoints = stage.checkpoints(ours, "job-2")
    checkpoints.save("step-10", data_consumed=400)
    stage.clock.advance(0.5)
    train(ours, 0)
    stage.quirks.set("rows.visible_after_lists", 1, times=1)
    checkpoints.save("step-20", data_consumed=777)
    kept = checkpoints.cursors.recorded()
    claim(kept == {"step-10": 400, "step-20": 777}, f"our cursor file is {kept}")
    return Report(
        sees=[
            f"the save of step-20 began at {started}; the list still ends with step-10, stamped in whole seconds",
            f"as text that stamp is not older, so dataloader.json becomes {cursors}",
        ],
        exchanges=stage.exchanges("list_checkpoints")[:1],
        right=[f"TrainingCheckpoints looks for the row that was not there before: {kept}"],
    )


def _fresh_as_text(stage: Stage, started: str) -> str:
    """What naive code takes for the row of the save that began at `started`."""
    while not (fresh := [r for r in stage.manager.list_checkpoints("job-1") if r["createTime"] >= started]):
        stage.time.sleep(1)
    return newest_as_text(fresh)
