"""What a list says may be over when the promotion comes."""

from ftsim.scenarios import promoting
from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import Stage, train

ID = "D10"
TITLE = "a row listed as promotable is refused when it is promoted"


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    train(client, 0)
    name = promoting.sampler(client, "step-1")
    stage.quirks.set("rows.promotable_flips", True, times=1, checkpoint=name)
    row = promoting.row(stage, name)
    claim(row.promotable, f"the list says {row}")
    error = refusal(promoting.promote, stage, name, "mine")
    claim("(HTTP 400)" in str(error) and promoting.models(stage) == [], str(error))
    listed = [found for found in promoting.rows(stage) if found.promotable]
    model = promoting.promote_rightly(stage, listed[0], "mine")
    claim(model["state"] == "READY", f"got {model}")
    return Report(
        sees=["list_checkpoints: promotable true", promoting.first_line(error), promoting.cause(error)],
        exchanges=[*stage.exchanges("list_checkpoints")[:1], *stage.exchanges("promote")[:1]],
        right=[f"lists again, once, and promotes what is promotable then: {listed[0].id} to {model['name']}"],
    )
