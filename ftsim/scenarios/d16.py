"""A run that is to end in a model has to save something that can become one."""

from ftsim.scenarios import promoting
from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import BASE, Stage, train

ID = "D16"
TITLE = "output_model_id is set and no save was promotable: found out at the very end"


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    checkpoints = stage.checkpoints(client)
    for step in (1, 2):
        train(client, step)
        checkpoints.save(f"step-{step}", data_consumed=step)
    rows = promoting.rows(stage)
    naive = [row for row in rows if row.promotable]
    claim(len(rows) == 2 and not naive, f"the rows are {rows}")
    slept = stage.time.slept
    error = refusal(checkpoints.promote_latest, "mine", BASE)
    claim("no promotable checkpoint" in str(error) and not stage.exchanges("promote"), str(error))
    waited = stage.time.slept - slept
    checkpoints.save("step-2", promotable=True, data_consumed=2)
    model = checkpoints.promote_latest("mine", BASE)
    claim(model["state"] == "READY", f"got {model}")
    return Report(
        sees=[f"training is over; promotable rows: {len(naive)} of {len(rows)}", f"after {waited:.0f} s: {error}"],
        exchanges=stage.exchanges("list_checkpoints")[-1:],
        right=[f"a recipe with output_model_id always makes its last save promotable: {model['name']}"],
    )
