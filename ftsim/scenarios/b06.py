"""Requests run in the order they were sent: a save that is sent after the next batch holds that batch too."""

from typing import Any

from ftsim.scenarios.report import Report, claim
from ftsim.scenarios.stage import RATE, Stage, batch, train

ID = "B6"
TITLE = "a save in a pipelined loop holds more updates than its cursor says"


def reproduce(stage: Stage) -> Report:
    stage.quirks.set("optim.slow_s", 0.05)
    client = stage.client()
    first = _submit(client, 0)
    second = _submit(client, 1)
    first.result()
    client.save_state("step-1").result()
    cursor = 1
    second.result()
    held = stage.truth("job-1")[0].step
    claim((held, cursor) == (2, 1), f"the state is of step {held}")
    drained = stage.client("job-2")
    train(drained, 0)
    stage.checkpoints(drained, "job-2").save("step-1", data_consumed=1)
    claim(stage.truth("job-2")[0].step == 1, "a drained save should be of step 1")
    return Report(
        sees=[f"saved after batch 1 was awaited, cursor {cursor}; the state has {held} updates: batch 2 comes twice"],
        exchanges=stage.exchanges("optim_step", "save_weights")[:3],
        right=["wait for everything that was submitted, then save: one update, cursor 1"],
    )


def _submit(client: Any, number: int) -> Any:
    from ftsim.training.sdk import types

    client.forward_backward(batch(number), "cross_entropy")
    return client.optim_step(types.AdamParams(learning_rate=RATE))
