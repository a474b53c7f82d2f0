"""A row shows some time after the save that made it has returned."""

from ftsim.scenarios.report import Report, claim
from ftsim.scenarios.stage import BASE, Stage

ID = "A6"
TITLE = "the list lags behind the save, so there seems to be nothing to promote"


def reproduce(stage: Stage) -> Report:
    stage.quirks.set("rows.visible_after_s", 8.0)
    checkpoints = stage.checkpoints(stage.client())
    checkpoints.save("step-0", resumable=False, promotable=True)
    rows = stage.manager.list_checkpoints("job-1")
    claim(not rows, f"the list already shows {rows}")
    model = checkpoints.promote_latest("model", BASE)
    claim(model["state"] == "READY", f"the model is {model}")
    return Report(
        sees=["the save has returned, the list is empty: 'no promotable checkpoint'"],
        exchanges=[stage.exchanges("save_weights_for_sampler")[0], *stage.exchanges("list_checkpoints")[1:2]],
        right=[f"TrainingCheckpoints looks again, with a deadline: promoted after {stage.time.slept:.1f} s"],
    )
