"""A gateway gives up on a promotion that goes through; the client's retry then meets its own model."""

from ftsim.scenarios import promoting
from ftsim.scenarios.report import Report, claim, refusal, still_upstream
from ftsim.scenarios.stage import Stage, train

ID = "D6"
TITLE = "promoted, then told that it failed: 504, and the automatic retry meets 409"
UPSTREAM = "fireworks-ai 1.2.28"


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    train(client, 0)
    name = promoting.sampler(client, "step-1")
    stage.quirks.set("http.apply_then_fail", 504, times=1, endpoint="promote")
    error = refusal(promoting.promote, stage, name, "mine")
    answers = [exchange.status for exchange in stage.exchanges("promote")]
    seen = answers == [504, 409] and "(HTTP 409)" in str(error)
    still_upstream(UPSTREAM, seen, f"a retry turns success into failure: {answers}, {error}")
    claim(promoting.models(stage) == ["mine"], f"the models are {promoting.models(stage)}")
    stage.quirks.set("http.apply_then_fail", 504, times=1, endpoint="promote")
    model = promoting.promote_rightly(stage, promoting.row(stage, name), "mine-too")
    claim(model["state"] == "READY", f"our client got {model}")
    return Report(
        sees=[promoting.first_line(error), "the model exists, READY"],
        exchanges=stage.exchanges("promote")[:2],
        right=[f"after any failure looks whether this very row became the model: {model['name']} is a success"],
    )
