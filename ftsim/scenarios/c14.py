"""A run that starts from another phase's checkpoint counts from 0 again, and comes to names that are taken."""

from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import Stage, train

ID = "C14"
TITLE = "init_from resets the step to 0, so names of two phases on one job collide"


def reproduce(stage: Stage) -> Report:
    first = stage.client()
    dpo = stage.checkpoints(first, run="dpo")
    train(first, 0)
    dpo.save("step-1", data_consumed=8)
    naive = stage.client()
    naive.load_state("step-1").result()
    train(naive, 1, 2)
    collision = refusal(lambda: naive.save_state("step-1").result())
    claim("already exists" in str(collision), f"refused with {collision}")
    second = stage.client()
    rl = stage.checkpoints(second, run="rl")
    info = rl.resume(init_from_checkpoint="job-1:step-1")
    train(second, 1)
    ours = refusal(rl.save, "step-1", data_consumed=4)
    rl.save("rl-step-1", data_consumed=4)
    resumed = stage.checkpoints(stage.client(), run="rl").resume()
    claim(info and info.step == 0 and resumed and resumed.source == "rl-step-1", f"{info}, then {resumed}")
    return Report(
        sees=[f"the second phase saves its own step-1: {str(collision)[:160]}"],
        exchanges=stage.exchanges("save_weights")[1:2],
        right=[f"TrainingCheckpoints says so before it sends: {str(ours)[:200]}", "a prefix per phase: rl-step-1"],
    )
