"""Rows that a filter drops are data that was consumed."""

from ftsim.scenarios.report import Report, claim
from ftsim.scenarios.stage import Stage, train
from ftsim.training.data.batches import Step, build_plan, steps_done

ID = "C16"
TITLE = "the cursor counts trained rows, so it drifts with every row that is dropped"
_USABLE = [True, False, True, False, True, True, True, True]


def reproduce(stage: Stage) -> Report:
    trained = [number for number, usable in enumerate(_USABLE) if usable]
    client = stage.client()
    for number in trained[:3]:
        train(client, number)
    cursor = 3
    resumed = [number for number in range(cursor, len(_USABLE)) if _USABLE[number]]
    claim(trained[2] in resumed, f"naive resume goes on with {resumed}")

    plan = build_plan(_USABLE, epochs=1, batch_size=1, accumulation=1, seed=0)
    ours = stage.client("job-2")
    checkpoints = stage.checkpoints(ours, "job-2")
    for step in plan[:3]:
        train(ours, *_numbers(step))
    checkpoints.save("step-3", data_consumed=plan[2].data_consumed)
    again = stage.client("job-2")
    info = stage.checkpoints(again, "job-2").resume()
    for step in plan[steps_done(plan, info.data_consumed) :]:
        train(again, *_numbers(step))
    seen = stage.trained_on(ours) + stage.trained_on(again)
    claim(sorted(seen) == trained, f"the journal says {seen}")
    return Report(
        sees=[f"three rows are trained ({trained[:3]}), the cursor says {cursor}: row {trained[2]} comes again"],
        exchanges=stage.exchanges("forward_backward")[:3],
        right=[f"count raw rows, dropped ones too (cursor {info.data_consumed}): every usable row once, {seen}"],
    )


def _numbers(step: Step) -> list[int]:
    return [row for batch in step.micro_batches for row in batch]
