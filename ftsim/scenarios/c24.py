"""Two phases on one job: the newest row belongs to the other one."""

from ftsim.scenarios.report import Report, claim
from ftsim.scenarios.stage import Stage, newest_as_text, train

ID = "C24"
TITLE = "a rerun of the first phase resumes from a row of the later phase, which is newest on the job"


def reproduce(stage: Stage) -> Report:
    first = stage.client()
    train(first, 0)
    stage.checkpoints(first, run="dpo").save("step-1", data_consumed=8)
    second = stage.client()
    rl = stage.checkpoints(second, run="rl")
    rl.resume(init_from_checkpoint="job-1:step-1")
    train(second, 1)
    rl.save("rl-step-1", data_consumed=4)
    newest = newest_as_text(stage.manager.list_checkpoints("job-1"))
    claim(newest == "rl-step-1", f"the newest row is {newest}")
    again = stage.client()
    resumed = stage.checkpoints(again, run="dpo").resume()
    claim(resumed and (resumed.source, resumed.data_consumed) == ("step-1", 8), f"resumed {resumed}")
    claim(stage.weights(again) == stage.weights(first), "the weights are not those of the first phase")
    return Report(
        sees=[f"the newest row of the job is {newest}: the DPO rerun goes on from RL's weights"],
        exchanges=stage.exchanges("list_checkpoints")[-1:],
        right=["TrainingCheckpoints resumes rows that its own cursor file knows: step-1, 8 rows consumed"],
    )
