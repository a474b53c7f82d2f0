"""The cursor says how many batches were trained, and is read as the number of the last one."""

from ftsim.scenarios.report import Report, claim
from ftsim.scenarios.stage import Stage, train

ID = "C15"
TITLE = "off by one: every resume trains the last batch a second time"


def reproduce(stage: Stage) -> Report:
    before = stage.client()
    for number in range(3):
        train(before, number)
    before.save_state("step-3").result()
    cursor = {"last_batch": 2}
    after = stage.client()
    after.load_state_with_optimizer("step-3").result()
    for number in range(cursor["last_batch"], 5):  # "last trained" read as "next to train"
        train(after, number)
    naive = stage.trained_on(before) + stage.trained_on(after)
    claim(naive == [0, 1, 2, 2, 3, 4], f"the journal says {naive}")

    ours = stage.client("job-2")
    checkpoints = stage.checkpoints(ours, "job-2")
    for number in range(3):
        train(ours, number)
    checkpoints.save("step-3", data_consumed=3)
    again = stage.client("job-2")
    resumed = stage.checkpoints(again, "job-2").resume()
    for number in range(resumed.data_consumed, 5):
        train(again, number)
    right = stage.trained_on(ours) + stage.trained_on(again)
    claim(right == [0, 1, 2, 3, 4], f"the journal says {right}")
    return Report(
        sees=[f"batches trained, by the journal: {naive}"],
        exchanges=stage.exchanges("forward_backward")[2:4],
        right=[f"store the index of the next unseen row, as TrainingCheckpoints does: {right}"],
    )
