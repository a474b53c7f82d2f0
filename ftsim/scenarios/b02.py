"""The save is made, its answer is lost, and the same request comes again."""

import time

from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import Stage

ID = "B2"
TITLE = "the answer to a save is lost: the retry is told that the name exists"


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    stage.quirks.set("rpc.dedupe", False)
    stage.quirks.set("save.on_duplicate", "strict")
    with stage.hurry():
        _lose(stage)
        stage.time.meanwhile = lambda: _until_saved(stage)
        error = refusal(lambda: client.save_state("step-0").result())
        claim("already exists" in str(error), f"the retry ends with {error}")
        claim([row.id for row in stage.truth("job-1")] == ["step-0"], "the save should have been made")
        ours = stage.checkpoints(stage.client("job-2"), "job-2")
        _lose(stage)
        ours.save("step-0", data_consumed=8)
        claim(ours.cursors.recorded() == {"step-0": 8}, f"our cursors are {ours.cursors.recorded()}")
        stage.quirks.set("rpc.dedupe", True)
        _lose(stage)
        stage.client("job-3").save_state("step-0").result()
    return Report(
        sees=[f"the save fails: {str(error)[:140]}", "and the list shows step-0"],
        exchanges=stage.exchanges("save_weights")[:2],
        right=[
            "TrainingCheckpoints looks for the row before it believes a failed save",
            "a server that keeps (model_id, seq_id) answers the retry with the first result",
        ],
    )


def _until_saved(stage: Stage) -> None:
    """The client waits a second before it asks again, time enough for the trainer to save."""
    for _ in range(500):
        if stage.truth("job-1"):
            return
        time.sleep(0.01)


def _lose(stage: Stage) -> None:
    stage.quirks.set("http.lose_reply", "after", endpoint="save_weights", times=1)
