"""An engine that works on its only copy has spoiled it before it finds out."""

from ftsim.scenarios import serving
from ftsim.scenarios.report import Report, claim
from ftsim.scenarios.stage import Stage, train

ID = "E11"
TITLE = "a failed delta applied in place ruins the weights that it should have been applied to"


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    model = serving.deploy(stage)
    train(client, 0)
    base = serving.save(client, "one")
    claim(serving.load(stage, base), serving.told(stage))
    train(client, 1)
    serving.save(client, "skipped", "delta")
    train(client, 2)
    delta = serving.save(client, "three", "delta")
    good, text = serving.weights(stage), _first(stage, model)
    claim(not serving.load(stage, delta, serving.after(base)), "the delta does not fit and should be refused")
    claim(serving.weights(stage) == good, "on a copy a failure should leave the weights")
    stage.quirks.set("hotload.delta_apply", "inplace")
    claim(not serving.load(stage, delta, serving.after(base)), "the delta does not fit and should be refused")
    said, spoiled = serving.told(stage), _first(stage, model)
    claim(serving.weights(stage) != good and spoiled != text, f"in place the weights should be spoiled: {spoiled}")
    claim(serving.held(stage) == [base], f"the status shows {serving.held(stage)}")
    train(client, 3)
    whole = serving.save(client, "four")
    claim(serving.load(stage, whole) and serving.held(stage) == [whole], serving.told(stage))
    claim(_first(stage, model) != spoiled, "a full snapshot should mend what is served")
    return Report(
        sees=[
            said,
            f"the status still says {base}; the first log-probability of a prompt went from {text} to {spoiled}",
        ],
        exchanges=stage.exchanges("hot_load")[2:3],
        right=[f"after any failed delta sends a full snapshot, not the delta again: {whole}"],
    )


def _first(stage: Stage, model: str) -> str:
    """The first log-probability of a fixed greedy completion, or what the replica answers instead."""
    answer = serving.complete(stage, model, logprobs=True)
    if answer.status_code != 200:
        return f"HTTP {answer.status_code}"
    return str(answer.json()["choices"][0]["logprobs"]["content"][0]["logprob"])
