"""A training state is for resuming, whatever its name."""

from ftsim.scenarios import promoting
from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import BASE, Stage, train

ID = "D2"
TITLE = "a resumable checkpoint (DCP) cannot be promoted"


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    checkpoints = stage.checkpoints(client)
    train(client, 0)
    checkpoints.save("step-1", data_consumed=1)
    error = refusal(promoting.promote, stage, "step-1", "mine")
    claim("(HTTP 400)" in str(error), str(error))
    claim(promoting.models(stage) == [], "a refused promotion left a model")
    checkpoints.save("step-1", resumable=False, promotable=True)
    model = checkpoints.promote_latest("mine", BASE)
    claim(model["kind"] == "HF_BASE_MODEL", f"promoted {model}")
    return Report(
        sees=[promoting.first_line(error), promoting.cause(error)],
        exchanges=stage.exchanges("promote")[:1],
        right=[f"saves with promotable=True as well and promotes that row to {model['name']}"],
    )
