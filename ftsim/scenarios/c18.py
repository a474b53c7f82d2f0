"""The last checkpoint of an epoch says that the next batch is the one after the last."""

from ftsim.scenarios.report import Report, claim
from ftsim.scenarios.stage import Stage, train
from ftsim.training.data.batches import build_plan, steps_done

ID = "C18"
TITLE = "the final cursor says batch = n_batches: the resumed run trains zero steps"
_BATCHES, _EPOCHS = 3, 2


def reproduce(stage: Stage) -> Report:
    naive = stage.client()
    saved = {"epoch": 0, "batch": _BATCHES, "step": _BATCHES}
    step = saved["step"]
    for _epoch in range(saved["epoch"], _EPOCHS):
        for number in range(saved["batch"], _BATCHES):
            train(naive, number)
        step += _BATCHES
    trained = stage.trained_on(naive)
    claim(not trained and step > _EPOCHS * _BATCHES, f"naive trained {trained}, its step is {step}")

    plan = build_plan([True] * _BATCHES, epochs=_EPOCHS, batch_size=1, accumulation=1, seed=0)
    ours = stage.client("job-2")
    checkpoints = stage.checkpoints(ours, "job-2")
    for planned in plan[:_BATCHES]:
        train(ours, planned.micro_batches[0][0])
    checkpoints.save(f"step-{_BATCHES}", data_consumed=plan[_BATCHES - 1].data_consumed)
    again = stage.client("job-2")
    info = stage.checkpoints(again, "job-2").resume()
    left = plan[steps_done(plan, info.data_consumed) :]
    for planned in left:
        train(again, planned.micro_batches[0][0])
    claim([planned.epoch for planned in left] == [1] * _BATCHES, f"what is left is {left}")
    claim(sorted(stage.trained_on(again)) == list(range(_BATCHES)), f"trained {stage.trained_on(again)}")
    return Report(
        sees=[f"resumed at {saved}: no batch is trained, the step counter says {step} of {len(plan)}"],
        exchanges=[entry for entry in stage.exchanges("forward_backward") if entry.path.count("job-2")][-1:],
        right=[
            f"a cursor of raw rows rolls over by itself: {info.data_consumed} rows, then epoch 1 from its first batch"
        ],
    )
