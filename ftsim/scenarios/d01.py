"""A delta holds only what changed, so it cannot become a model."""

from ftsim.scenarios import promoting
from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import BASE, Stage, train

ID = "D1"
TITLE = "a delta is the newest sampler row and cannot be promoted"


def reproduce(stage: Stage) -> Report:
    from ftsim.training.promote_checkpoint import choose

    client = stage.client()
    train(client, 0)
    base = promoting.sampler(client, "step-1")
    train(client, 1)
    delta = promoting.sampler(client, "step-2", "delta")
    kinds = [row.kind.value for row in stage.truth("job-1")]
    claim(kinds[-1].endswith("INFERENCE_ARC_V2"), f"the rows are {kinds}")
    error = refusal(promoting.promote, stage, delta, "mine")
    claim("(HTTP 400)" in str(error), str(error))
    claim(promoting.models(stage) == [], "a refused promotion left a model")
    row = choose(promoting.rows(stage), None)
    claim(row.id == base, f"our client chose {row.id}")
    model = promoting.promote_rightly(stage, row, "mine")
    claim(model["kind"] == "HF_BASE_MODEL", f"promoted {model}")
    return Report(
        sees=[promoting.first_line(error), promoting.cause(error)],
        exchanges=stage.exchanges("promote")[:1],
        right=[f"takes the newest row that says promotable, {base}, and gets {model['name']}", f"base model {BASE}"],
    )
