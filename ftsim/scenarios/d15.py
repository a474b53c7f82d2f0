"""Rows are in the order of time, and an older step can be saved later."""

from ftsim.scenarios import promoting
from ftsim.scenarios.report import Report, claim
from ftsim.scenarios.stage import Stage, train

ID = "D15"
TITLE = "the newest row is not the highest step: an older step saved again is promoted"


def reproduce(stage: Stage) -> Report:
    from ftsim.training.promote_checkpoint import choose

    first = stage.client()
    train(first, 0)
    first.save_state("step-1").result()
    train(first, 1)
    highest = promoting.sampler(first, "step-2")
    again = stage.client()  # a retry of the run goes back to the state before
    again.load_state_with_optimizer("step-1").result()
    older = promoting.sampler(again, "step-1")
    rows = promoting.rows(stage)
    newest = choose(rows, None)
    claim(newest.id == older, f"the newest promotable row is {newest.id}")
    promoting.promote(stage, newest.id, "newest")
    step = _step(stage, "newest")
    claim(step == 1, f"the model holds step {step}")
    best = max((row for row in rows if row.promotable), key=lambda row: int(row.id.split("-")[1]))
    right = choose(rows, "step-2")
    claim(best.id == right.id == highest, f"by name {right.id}, by step {best.id}")
    model = promoting.promote_rightly(stage, right, "mine")
    claim(_step(stage, "mine") == 2, f"{model['name']} holds step {_step(stage, 'mine')}")
    return Report(
        sees=[f"rows, newest first: {', '.join(row.id for row in rows)}", f"the newest one's model holds step {step}"],
        exchanges=stage.exchanges("promote")[:1],
        right=[f"names the checkpoint or compares steps of one lineage: {highest}, step 2, to {model['name']}"],
    )


def _step(stage: Stage, model: str) -> int:
    found = stage.emulator.world.models.get(f"accounts/{stage.account}/models/{model}")
    assert found is not None
    return found.source_step
