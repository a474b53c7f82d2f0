"""A model id can be taken only once, and the hint of the error speaks of checkpoint names."""

from ftsim.scenarios import promoting
from ftsim.scenarios.report import Report, claim, refusal, still_upstream
from ftsim.scenarios.stage import Stage, train

ID = "D5"
TITLE = "the model id is taken: 409, with advice about checkpoint names"
UPSTREAM = "fireworks-ai 1.2.28"


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    train(client, 0)
    first = promoting.sampler(client, "step-1")
    train(client, 1)
    second = promoting.sampler(client, "step-2")
    made = promoting.promote(stage, first, "mine")
    error = refusal(promoting.promote, stage, first, "mine")
    claim("(HTTP 409)" in str(error), str(error))
    hint = next(line.strip() for line in str(error).splitlines() if "Solution:" in line)
    wrong = "checkpoint name" in hint and "model" not in hint.replace("base_model", "")
    still_upstream(UPSTREAM, wrong, f"the advice for a taken model id: {hint}")
    same = promoting.promote_rightly(stage, promoting.row(stage, first), "mine")
    claim(same["name"] == made["name"], f"the same source should be success, got {same}")
    other = refusal(promoting.promote_rightly, stage, promoting.row(stage, second), "mine")
    with stage.quirks.set("promote.on_existing", "same_source_ok"):
        again = promoting.promote(stage, first, "mine")
    claim(again["name"] == made["name"], f"a server that knows the source gave {again}")
    return Report(
        sees=[promoting.first_line(error), promoting.cause(error), hint[:200]],
        exchanges=stage.exchanges("promote")[1:2],
        right=[
            f"reads the model and finds its own source: success, {same['name']}",
            f"another source: {promoting.first_line(other)}",
        ],
    )
