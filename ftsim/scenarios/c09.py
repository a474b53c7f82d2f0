"""A load is allowed as the first request of a model, and at no other time."""

from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import Stage, train

ID = "C9"
TITLE = "loading in the middle of a run: LoadWeights is not permitted"


def reproduce(stage: Stage) -> Report:
    stage.quirks.set("load.first_request_only", True)
    client = stage.client()
    train(client, 0)
    client.save_state("step-1").result()
    error = refusal(lambda: client.load_state("step-1").result())
    claim("not permitted with seq_id" in str(error), f"refused with {error}")
    checkpoints = stage.checkpoints(client, run="ours")
    checkpoints.save("step-1b", data_consumed=8)
    resumed = stage.checkpoints(stage.client(), run="ours").resume()
    claim(resumed and resumed.source == "step-1b", f"resumed {resumed}")
    return Report(
        sees=[f"after the first step: {str(error)[:160]}"],
        exchanges=stage.exchanges("load_weights"),
        right=["create a client and load at once, as TrainingCheckpoints.resume() expects: allowed everywhere"],
    )
