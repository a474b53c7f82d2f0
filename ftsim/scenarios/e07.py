"""Several replicas load at different speeds, and one of them is looked at."""

from ftsim.scenarios import serving
from ftsim.scenarios.report import Report, claim, still_upstream
from ftsim.scenarios.stage import Stage, train

ID = "E7"
TITLE = "complete, says the client, while the second replica serves the old weights"
UPSTREAM = "fireworks-ai 1.2.28"


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    model = serving.deploy(stage, replicas=2)
    train(client, 0)
    claim(serving.load(stage, serving.save(client, "one")), serving.told(stage))
    train(client, 1, 2, 3)
    stage.quirks.set("hotload.lag_s", 30.0)
    snapshot = serving.save(client, "two")
    loaded = serving.load(stage, snapshot)
    shown = serving.held(stage)
    seen = loaded and shown[0] == snapshot and shown[1] != snapshot
    still_upstream(UPSTREAM, seen, f"loaded {loaded}, the replicas show {shown}")
    claim(len(set(serving.weights(stage))) == 2, "both replicas hold the same weights")
    answers = [serving.complete(stage, model, logprobs=True).json()["choices"][0] for _ in range(2)]
    logprobs = [answer["logprobs"]["content"][0]["logprob"] for answer in answers]
    claim(logprobs[0] != logprobs[1], f"two requests should meet two policies: {logprobs}")
    waited = serving.everywhere(stage, snapshot)
    claim(len(set(serving.weights(stage))) == 1, "the replicas differ after waiting for both")
    return Report(
        sees=[f"hotload_and_wait: {loaded}; the replicas serve {shown}",
              f"one prompt twice, first log-probability {logprobs[0]:.4f} and {logprobs[1]:.4f}: mixed rollouts"],
        exchanges=stage.exchanges("hot_load_status")[1:2],
        right=[f"waits until every replica serves {snapshot}: {waited:.0f} s more"],
    )  # fmt: skip
