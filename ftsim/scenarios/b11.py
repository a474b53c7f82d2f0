"""The first save of a full-parameter model is asked to be a delta: against what?"""

from ftsim.scenarios.report import Report, claim, refusal, still_upstream
from ftsim.scenarios.stage import Stage, train

ID = "B11"
TITLE = "an explicit delta as the first save has no base, and the SDK lets it through"
UPSTREAM = "fireworks-ai 1.2.28"


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    error = refusal(client.save_weights_for_sampler_ext, "first", checkpoint_type="delta")
    sent = stage.exchanges("save_weights_for_sampler")[0]
    still_upstream(UPSTREAM, sent.json["checkpoint_type"] == "delta", "the SDK sends a delta that has no base")
    claim("save base first" in str(error), f"refused with {error}")
    with stage.quirks.set("sampler.delta_without_base", "store"):
        client.save_weights_for_sampler_ext("stored", checkpoint_type="delta")
    ours = stage.client("job-2")
    for name in ("first", "second"):
        ours.save_weights_for_sampler_ext(name)
        train(ours, 0)
    kinds = [row.kind.value.removeprefix("CHECKPOINT_TYPE_") for row in stage.truth("job-2")]
    claim(kinds == ["INFERENCE_BASE", "INFERENCE_ARC_V2"], f"the kinds are {kinds}")
    stored = stage.truth("job-1")[-1].kind
    return Report(
        sees=[f"refused: {str(error)[:140]}", f"or, with another server, stored: the row is {stored.value}"],
        exchanges=[sent],
        right=[f"leave checkpoint_type out, or save base first: {', '.join(kinds)}"],
    )
