"""With the default transition a generation that is under way goes on with the new weights."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ftsim.scenarios import serving
from ftsim.scenarios.report import Report, claim
from ftsim.scenarios.stage import Stage, train

ID = "E24"
TITLE = "one answer holds tokens of two policies"
LENGTH = 100


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    model = serving.deploy(stage)
    train(client, *range(8))
    snapshot = serving.save(client, "one")
    old, mixed = _across_a_load(stage, model, snapshot)
    switched = next((at for at, (a, b) in enumerate(zip(old, mixed, strict=True)) if a != b), None)
    claim(switched, "the first tokens should be the old policy's, the last ones not")
    stage.deployments.update(
        serving.DEPLOYMENT, body={"hotLoadTransitionType": "SYNC"}, update_mask="hot_load_transition_type"
    )
    before, drained = _across_a_load(stage, model, snapshot)
    claim(drained == before, "with SYNC the answer should be the old policy's alone")
    return Report(
        sees=[f"an answer of {LENGTH} tokens: the first {switched} log-probabilities are the old weights', then not"],
        exchanges=stage.exchanges("hot_load")[:1],
        right=["asks for hot_load_transition_type=SYNC where rollouts must not mix: all tokens of one policy"],
    )


def _across_a_load(stage: Stage, model: str, snapshot: str) -> tuple[list[float], list[float]]:
    """Log-probabilities of a fixed answer before the load, and of the same request with a load in its middle."""
    before = _answer(stage, model)
    found = stage.emulator.platform.deployments.get(stage.account, serving.DEPLOYMENT)
    replica: Any = stage.emulator.platform.replicas.of_pod(found, found.pods[0])
    while replica._sampler._rows:  # what was answered may still be on its way out
        time.sleep(0.0005)
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(_answer, stage, model)
        while not (replica._sampler._rows or under_way.done()):
            time.sleep(0.0005)
        claim(serving.load(stage, snapshot), serving.told(stage))
        return before, under_way.result()


def _answer(stage: Stage, model: str) -> list[float]:
    answer = serving.complete(stage, model, max_tokens=LENGTH, logprobs=True, ignore_eos=True)
    return [row["logprob"] for row in answer.json()["choices"][0]["logprobs"]["content"]]
