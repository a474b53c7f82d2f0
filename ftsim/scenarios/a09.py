"""A state is listed under the caller's name at first, and under another one ten seconds later."""

from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import Stage, short, train

ID = "A9"
TITLE = "a row's first name does not last: what was keyed on it is lost"


def reproduce(stage: Stage) -> Report:
    stage.quirks.set("dcp.rename", "internal_step")
    stage.quirks.set("dcp.rename_after_s", 10.0)
    stage.client().save_state("step-2").result()
    first = short(stage.manager.list_checkpoints("job-1")[-1]["name"])
    stage.clock.advance(10)
    later = short(stage.manager.list_checkpoints("job-1")[-1]["name"])
    claim((first, later) == ("step-2", "step-0"), f"the row was {first}, then {later}")

    client = stage.client("job-2")
    checkpoints = stage.checkpoints(client, "job-2")
    checkpoints.save("step-2", data_consumed=16)
    stage.clock.advance(10)
    killed = refusal(stage.checkpoints(stage.client("job-2"), "job-2").resume)
    train(client, 0)
    checkpoints.save("step-3", data_consumed=24)
    known = checkpoints.cursors.recorded()
    claim(known.get("step-0") == 16, f"the renamed row is known as {known}")
    resumed = stage.checkpoints(stage.client("job-2"), "job-2").resume()
    claim(resumed and resumed.data_consumed == 24, f"resumed {resumed}")
    return Report(
        sees=[f"right after the save the row is {first}, ten seconds later {later}"],
        exchanges=stage.exchanges("list_checkpoints")[:2],
        right=[
            f"TrainingCheckpoints follows the rename at its next save: {known}",
            f"killed before that, it does not start over but refuses: {killed}",
        ],
    )
