"""The trainer lists a state under its own step counter, not under the name it was saved as."""

from ftsim.scenarios.report import Report, claim
from ftsim.scenarios.stage import Stage, short

ID = "A8"
TITLE = "the trainer renames what save_state wrote, and the cursor is looked up under another name"


def reproduce(stage: Stage) -> Report:
    stage.quirks.set("dcp.rename", "internal_step")
    answer = stage.client().save_state("step-42").result()
    cursors = {"step-42": 336}
    listed = short(stage.manager.list_checkpoints("job-1")[-1]["name"])
    claim((listed, cursors.get(listed, 0)) == ("step-0", 0), f"the row is {listed}")
    stage.checkpoints(stage.client("job-2"), "job-2").save("step-42", data_consumed=336)
    again = stage.checkpoints(stage.client("job-2"), "job-2")
    resumed = again.resume()
    claim(resumed and (resumed.step, resumed.data_consumed) == (42, 336), f"resumed {resumed}")
    return Report(
        sees=[
            f"save_state('step-42') answers path {answer.path!r}, the list shows {listed}",
            "dataloader.json knows step-42 only: after a resume the data begins at row 0 again",
        ],
        exchanges=[*stage.exchanges("save_weights")[:1], *stage.exchanges("list_checkpoints")[:1]],
        right=[f"TrainingCheckpoints keeps the cursor under the row it finds: {again.cursors.recorded()}"],
    )
