"""Whoever samples while weights are swapped meets every kind of not now."""

import asyncio
from typing import Any

from ftsim.scenarios import serving
from ftsim.scenarios.report import Report, claim, refusal
from ftsim.scenarios.stage import BASE, Stage, train

ID = "E23"
TITLE = "sampling during a load: 425, 404, 503, or a stream that ends early"


def reproduce(stage: Stage) -> Report:
    client = stage.client()
    model = serving.deploy(stage)
    train(client, 0)
    snapshot = serving.save(client, "one")
    quirks = stage.quirks
    quirks.set("hotload.duration_s", 30.0)
    seen = {}
    for answer in ("425", "404"):
        stage.deployments.hotload(serving.DEPLOYMENT, BASE, snapshot)
        with quirks.set("inference.during_load", answer):
            naive = serving.complete(stage, model)
            seen[answer] = naive.json()["message"]
            claim(naive.status_code == int(answer), naive.text)
            claim(_sample(stage, model), f"the SDK's sampler should outlast {answer}")
    stage.deployments.scale_to_zero(serving.DEPLOYMENT)
    scaling = serving.complete(stage, model)
    claim(scaling.status_code == 503 and "DEPLOYMENT_SCALING_UP" in scaling.text, scaling.text)
    body = {"minReplicaCount": 1, "maxReplicaCount": 1}
    stage.deployments.update(serving.DEPLOYMENT, body=body, update_mask=["min_replica_count", "max_replica_count"])
    quirks.set("inference.truncate_stream", True, times=1, deployment=serving.DEPLOYMENT)
    cut = serving.complete(stage, model, stream=True).text
    claim("[DONE]" not in cut, cut)
    quirks.set("http.cut_body", 40, times=1, endpoint="completions")
    broken = refusal(serving.complete, stage, model, stream=True)
    before = len(stage.exchanges("completions"))
    quirks.set("inference.truncate_stream", True, times=1, deployment=serving.DEPLOYMENT)
    claim(_sample(stage, model), "the SDK's sampler should ask again after a cut stream")
    asked = len(stage.exchanges("completions")) - before
    claim(asked == 2, f"the sampler asked {asked} times")
    return Report(
        sees=[*(f"{status}: {text}" for status, text in seen.items()), f"503: {scaling.json()['message']}",
              f"a stream without its last chunk, of {len(cut)} bytes; a connection cut: {broken}"],
        exchanges=stage.exchanges("completions")[:2],
        right=["the SDK's sampler asks again, ten times in 50 s for 404 and 425, until it has a whole answer"],
    )  # fmt: skip


def _sample(stage: Stage, model: str) -> Any:
    """One completion by the SDK's sampler; its waiting passes on the emulator's clock."""
    from fireworks.training.sdk import DeploymentSampler, errors, sampling

    async def run() -> Any:
        sampler = DeploymentSampler(inference_url=stage.url, model=model, api_key=stage.key)
        try:
            return await sampler.sample_with_prompt_tokens([1, 2, 3], max_tokens=4)
        finally:
            sampler.close()
            await asyncio.sleep(0.01)  # its connections close in a task

    with stage.hurry(sampling, errors):
        return asyncio.run(run())
