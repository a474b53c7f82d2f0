"""The usual snippet, max() by createTime over the promotable rows, promotes the older one."""

from ftsim.scenarios.report import Report, claim
from ftsim.scenarios.stage import BASE, Stage, train

ID = "A2"
TITLE = "max(rows, key=createTime) promotes the older row"


def reproduce(stage: Stage) -> Report:
    stage.quirks.set("rows.time_precision", "mixed")
    client = stage.client()
    checkpoints = stage.checkpoints(client)
    stage.stop_the_clock()
    checkpoints.save("step-0", resumable=False, promotable=True)
    train(client, 0)
    checkpoints.save("step-1", resumable=False, promotable=True)
    rows = [row for row in stage.manager.list_checkpoints("job-1") if row["promotable"]]
    chosen = max(rows, key=lambda row: row["createTime"])
    stage.manager.promote_checkpoint(name=chosen["name"], output_model_id="snippet", base_model=BASE)
    claim(_step(stage, "snippet") == 0, f"the snippet promoted step {_step(stage, 'snippet')}")
    checkpoints.promote_latest("right", BASE)
    claim(_step(stage, "right") == 1, f"promote_latest promoted step {_step(stage, 'right')}")
    return Report(
        sees=[f"the model 'snippet' is of step 0, although step 1 is listed: {[row['createTime'] for row in rows]}"],
        exchanges=stage.exchanges("promote")[:1],
        right=["TrainingCheckpoints.promote_latest() compares times, and promotes step 1"],
    )


def _step(stage: Stage, model: str) -> int:
    made = stage.emulator.world.models.get(f"accounts/{stage.account}/models/{model}")
    assert made is not None
    return made.source_step
