"""A large copy takes longer than any gateway waits."""

from ftsim.scenarios import promoting
from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import Stage, train

ID = "D7"
TITLE = "a large promotion outlives the gateway: 502, and the model is READY minutes later"


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    train(client, 0)
    name = promoting.sampler(client, "step-1")
    stage.quirks.set("promote.duration_s", 320.0)
    stage.quirks.set("http.apply_then_fail", 502, endpoint="promote")
    error = refusal(promoting.promote, stage, name, "mine")
    claim("(HTTP 502)" in str(error), str(error))
    asked = stage.exchanges("promote")
    get = f"/v1/accounts/{stage.account}/models/mine"
    before = stage.http.get(get).json()["state"]
    stage.clock.advance(320)
    after = stage.http.get(get).json()["state"]
    claim((before, after) == ("UPLOADING", "READY"), f"the model was {before}, then {after}")
    slept = stage.time.slept
    model = promoting.promote_rightly(stage, promoting.row(stage, name), "mine-too")
    claim(model["state"] == "READY", f"our client returned {model}")
    return Report(
        sees=[
            f"{len(asked)} requests over {slept:.0f} s, then: {promoting.first_line(error)}",
            f"the model is {before}, and {after} when 320 s are over",
        ],
        exchanges=[asked[0], stage.exchanges("get_model")[0]],
        right=[f"polls the model until it is READY, {stage.time.slept - slept:.0f} s in all: {model['name']}"],
    )
