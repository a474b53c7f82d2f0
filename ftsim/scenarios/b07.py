"""The last save fails and the program only logs it."""

import logging
from typing import Any

from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import Stage, train

ID = "B7"
TITLE = "an error of the last save is swallowed: the run 'completed' and left nothing"


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    train(client, 0)
    stage.quirks.set("http.fail", 400, endpoint="save_weights_for_sampler")
    outcome = _naive_run(client)
    rows = stage.manager.list_checkpoints("job-1")
    claim(outcome == "completed" and not rows, f"the run {outcome}, the rows are {rows}")
    ours = refusal(stage.checkpoints(client).save, "step-1", resumable=False, promotable=True)
    claim("was not saved" in str(ours), f"our client says {ours}")
    return Report(
        sees=[f"the run {outcome}; the list of checkpoints is empty"],
        exchanges=stage.exchanges("save_weights_for_sampler")[:1],
        right=[f"TrainingCheckpoints fails the run: {str(ours)[:160]}"],
    )


def _naive_run(client: Any) -> str:
    try:
        client.save_weights_for_sampler_ext("step-1", checkpoint_type="base")
    except Exception as error:
        logging.getLogger(__name__).debug("failed to save the final checkpoint: %s", error)
    return "completed"
