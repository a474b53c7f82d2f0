"""The rest of an epoch is served in another order than it was shuffled into."""

import random

from ftsim.scenarios.report import Report, claim
from ftsim.scenarios.stage import Stage, train
from ftsim.training.data.batches import build_plan, steps_done

ID = "C17"
TITLE = "a resume in the middle of an epoch goes on in file order: rows come twice, others never"
_ROWS, _SEED = 6, 1


def reproduce(stage: Stage) -> Report:
    before, after = stage.client(), stage.client()
    order = list(range(_ROWS))
    random.Random(_SEED).shuffle(order)
    for row in order[:3]:
        train(before, row)
    for row in range(3, _ROWS):  # the new process has not shuffled: file order
        train(after, row)
    naive = stage.trained_on(before) + stage.trained_on(after)
    claim(sorted(naive) != list(range(_ROWS)), f"the journal says {naive}")

    plan = build_plan([True] * _ROWS, epochs=1, batch_size=1, accumulation=1, seed=_SEED)
    ours = stage.client("job-2")
    checkpoints = stage.checkpoints(ours, "job-2")
    for step in plan[:3]:
        train(ours, step.micro_batches[0][0])
    checkpoints.save("step-3", data_consumed=plan[2].data_consumed)
    again = stage.client("job-2")
    info = stage.checkpoints(again, "job-2").resume()
    for step in plan[steps_done(plan, info.data_consumed) :]:
        train(again, step.micro_batches[0][0])
    right = stage.trained_on(ours) + stage.trained_on(again)
    claim(right == [step.micro_batches[0][0] for step in plan], f"the journal says {right}")
    claim(sorted(right) == list(range(_ROWS)), f"the epoch held {right}")
    return Report(
        sees=[f"rows trained in the epoch, by the journal: {naive}"],
        exchanges=stage.exchanges("forward_backward")[2:4],
        right=[f"derive the seeded order again at every start: {right}, each row once"],
    )
