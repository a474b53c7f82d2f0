"""Rows of all sessions of a job are in one list: another session's step-10 is not this one's."""

import re

from ftsim.scenarios.report import Report, claim
from ftsim.scenarios.stage import BASE, Stage, short, train

ID = "A12"
TITLE = "skip-if-exists takes another session's row for its own, and the old run is promoted"


def reproduce(stage: Stage) -> Report:
    old = stage.client()
    train(old, 0)
    old.save_weights_for_sampler_ext("step-10", checkpoint_type="base")
    new = stage.client()
    train(new, 1)
    found = [short(row["name"]) for row in stage.manager.list_checkpoints("job-1")]
    there = [name for name in found if re.sub(r"-[0-9a-f]{8}$", "", name) == "step-10"]
    claim(there == [f"step-10-{old.session_id}"], f"naive code finds {there}")
    stage.manager.promote_checkpoint(
        name=f"{stage.job_name('job-1')}/checkpoints/{there[0]}", output_model_id="naive", base_model=BASE
    )
    checkpoints = stage.checkpoints(new)
    checkpoints.save("step-10", resumable=False, promotable=True)
    checkpoints.promote_latest("right", BASE)
    naive, right = _sources(stage, "naive"), _sources(stage, "right")
    claim(naive.endswith(old.session_id) and right.endswith(new.session_id), f"promoted {naive} and {right}")
    return Report(
        sees=[f"'step-10 exists already' ({there[0]}), nothing is saved, and the old run's {naive} is promoted"],
        exchanges=stage.exchanges("promote")[:1],
        right=[f"TrainingCheckpoints counts its own session's rows only: saves and promotes {right}"],
    )


def _sources(stage: Stage, model: str) -> str:
    made = stage.emulator.world.models.get(f"accounts/{stage.account}/models/{model}")
    assert made is not None
    return short(made.source_checkpoint)
