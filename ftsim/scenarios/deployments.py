"""Failures of creating deployments, and of sampling from them while snapshots change."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ftsim.scenarios import scenario
from ftsim.scenarios.support import deployments
from ftsim.scenarios.support.report import SDK_1_2_28, Report, claim, refusal, still_upstream
from ftsim.scenarios.support.stage import BASE, Stage, train

OTHER = "accounts/fireworks/models/qwen3-4b"


@scenario("E20", "an existing deployment of another base model is returned as it is", upstream=SDK_1_2_28)
def a_deployment_of_another_model_is_reused(stage: Stage) -> Report:
    """The id exists: the deployment behind it is handed back, whatever it serves."""
    from fireworks.training.sdk.managed import _deployment_shape_conflict

    deployments.deploy(stage, None, base_model=OTHER)
    wanted = deployments.config(stage, None)
    got = stage.deployments.create_or_get(wanted)
    still_upstream(SDK_1_2_28, got.base_model == OTHER, f"asked for {BASE}, got {got.base_model}")
    claim(not stage.exchanges("hot_load"), "nobody should have noticed yet")
    late = refusal(stage.deployments.hotload, deployments.DEPLOYMENT, BASE, "whatever")
    said = stage.exchanges("hot_load")[-1].answer["message"]
    shapes = [
        _deployment_shape_conflict(f"{deployments.SHAPE}/versions/1", other)
        for other in (f"{deployments.SHAPE}/versions/2", "accounts/fireworks/deploymentShapes/other/versions/1")
    ]
    still_upstream(SDK_1_2_28, shapes == [False, True], f"the managed path compares shapes only: {shapes}")
    compared = refusal(_compare, stage, wanted)
    stage.deployments.delete(deployments.DEPLOYMENT)
    claim(stage.deployments.create_or_get(wanted).base_model == BASE, "made anew it should serve the right model")
    return Report(
        sees=[
            f"create_or_get for {BASE} returns a deployment of {got.base_model}",
            f"the first load: {said}",
            f"{late}",
        ],
        exchanges=stage.exchanges("get_deployment")[1:2],
        right=[f"compares what it got with what it asked for: {compared}"],
    )


def _compare(stage: Stage, wanted: object) -> None:
    """Compare a deployment with what was wanted, as our own recipes do with one that they did not make."""
    from ftsim.training.errors import TrainerError

    got = stage.deployments.create_or_get(wanted)
    if got.base_model != BASE:
        raise TrainerError(f"deployment {got.deployment_id} serves {got.base_model}, not {BASE}: name another one")


@scenario("E21", "the deployment stays CREATING for ever and serves all the same")
def a_deployment_is_creating_for_ever(stage: Stage) -> Report:
    """A deployment serves and never says READY."""
    stage.job()
    stage.quirks.set("deployments.stuck_creating", True)
    model = deployments.deploy(stage)
    states = []
    for _ in range(10):
        states.append(stage.deployments.get(deployments.DEPLOYMENT).state)
        stage.time.sleep(360)
    claim(set(states) == {"CREATING"}, f"within an hour: {states}")
    slept = stage.time.slept_here
    with deployments.patient(stage):
        info = stage.deployments.wait_for_ready(deployments.DEPLOYMENT, timeout_s=600)
    probe = stage.exchanges("completions")
    claim(info.state == "READY" and stage.time.slept_here == slept, f"{info}")
    claim([exchange.status for exchange in probe] == [200], "the SDK should have probed once")
    return Report(
        sees=[f"GET deployment, an hour long: {states[0]}"],
        exchanges=[*stage.exchanges("get_deployment")[-1:], *probe],
        right=[f"asks {model} for a few tokens and goes on when it answers: {probe[0].status}"],
    )


MODEL = "accounts/fireworks/models/qwen3-4b"


@scenario("E22", "creating a deployment is refused: forTraining, description, a bare shape id, no shape at all")
def creating_a_deployment_is_refused(stage: Stage) -> Report:
    """Deployments are refused for reasons that depend on the account."""
    shaped = {
        "baseModel": MODEL,
        "description": "rollouts",
        "deploymentShape": deployments.SHAPE,
        "enableHotLoad": True,
    }
    with stage.quirks.set("deployments.private_shapes", True):
        private = _create(stage, shaped)
        right = _create(stage, {**shaped, "forTraining": True}, "right")
    with stage.quirks.set("deployments.require_description", True):
        nameless = _create(stage, {**shaped, "description": ""})
    bare = _create(stage, {**shaped, "deploymentShape": "ds-qwen3-4b"})
    none = _create(stage, {"baseModel": BASE, "description": "rollouts"})
    refused = [private, nameless, bare, none]
    said = [answer.json()["message"] for answer in refused]
    claim([answer.status_code for answer in refused] == [400] * 4, f"{said}")
    claim(right.status_code == 200, right.text)
    managed = refusal(_managed, stage)
    claim(isinstance(managed, ValueError) and "without a deployment shape" in str(managed), f"{managed!r}")
    with stage.quirks.set("deployments.require_description", True):
        named = stage.deployments.create_or_get(deployments.config(stage, None, deployment_id="named"))
    claim(named.state == "READY", "the SDK always sends a description")
    return Report(
        sees=[*(text[:160] for text in said), f"the managed path without a shape: {managed}"],
        exchanges=stage.exchanges("create_deployment")[:1],
        right=["sends forTraining, a description and the shape's full name, and is served"],
    )


def _create(stage: Stage, body: dict[str, Any], identifier: str = "dep-1") -> Any:
    return stage.http.post(f"/v1/accounts/{stage.account}/deployments", params={"deploymentId": identifier}, json=body)


def _managed(stage: Stage) -> None:
    from fireworks.training.sdk.managed import _create_or_reattach_deployment, _ManagedTinkerConfig

    config = _ManagedTinkerConfig(base_model=BASE)
    _create_or_reattach_deployment(
        stage.deployments, config, trainer_job_name=stage.job_name("job-1"), deployment_shape=None
    )


@scenario("E23", "sampling during a load: 425, 404, 503, or a stream that ends early")
def sampling_during_a_load(stage: Stage) -> Report:
    """Whoever samples while weights are swapped meets every kind of not now."""
    client = stage.client()
    model = deployments.deploy(stage)
    train(client, 0)
    snapshot = deployments.save(client, "one")
    quirks = stage.quirks
    quirks.set("hotload.duration_s", 30.0)
    seen = {}
    for answer in ("425", "404"):
        stage.deployments.hotload(deployments.DEPLOYMENT, BASE, snapshot)
        with quirks.set("inference.during_load", answer):
            naive = deployments.complete(stage, model)
            seen[answer] = naive.json()["message"]
            claim(naive.status_code == int(answer), naive.text)
            claim(_sample(stage, model), f"the SDK's sampler should outlast {answer}")
    stage.deployments.scale_to_zero(deployments.DEPLOYMENT)
    scaling = deployments.complete(stage, model)
    claim(scaling.status_code == 503 and "DEPLOYMENT_SCALING_UP" in scaling.text, scaling.text)
    body = {"minReplicaCount": 1, "maxReplicaCount": 1}
    stage.deployments.update(deployments.DEPLOYMENT, body=body, update_mask=["min_replica_count", "max_replica_count"])
    quirks.set("inference.truncate_stream", True, times=1, deployment=deployments.DEPLOYMENT)
    cut = deployments.complete(stage, model, stream=True).text
    claim("[DONE]" not in cut, cut)
    quirks.set("http.cut_body", 40, times=1, endpoint="completions")
    broken = refusal(deployments.complete, stage, model, stream=True)
    before = len(stage.exchanges("completions"))
    quirks.set("inference.truncate_stream", True, times=1, deployment=deployments.DEPLOYMENT)
    claim(_sample(stage, model), "the SDK's sampler should ask again after a cut stream")
    asked = len(stage.exchanges("completions")) - before
    claim(asked == 2, f"the sampler asked {asked} times")
    return Report(
        sees=[
            *(f"{status}: {text}" for status, text in seen.items()),
            f"503: {scaling.json()['message']}",
            f"a stream without its last chunk, of {len(cut)} bytes; a connection cut: {broken}",
        ],
        exchanges=stage.exchanges("completions")[:2],
        right=["the SDK's sampler asks again, ten times in 50 s for 404 and 425, until it has a whole answer"],
    )


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

    with stage.fake_time(sampling, errors):
        return asyncio.run(run())


LENGTH = 100


@scenario("E24", "one answer holds tokens of two policies")
def an_answer_of_two_policies(stage: Stage) -> Report:
    """With the default transition a generation that is under way goes on with the new weights."""
    client = stage.client()
    model = deployments.deploy(stage)
    train(client, *range(8))
    snapshot = deployments.save(client, "one")
    old, mixed = _across_a_load(stage, model, snapshot)
    switched = next((at for at, (a, b) in enumerate(zip(old, mixed, strict=True)) if a != b), None)
    claim(switched, "the first tokens should be the old policy's, the last ones not")
    stage.deployments.update(
        deployments.DEPLOYMENT, body={"hotLoadTransitionType": "SYNC"}, update_mask="hot_load_transition_type"
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
    found = stage.emulator.platform.deployments.get(stage.account, deployments.DEPLOYMENT)
    replica: Any = stage.emulator.platform.replicas.of_pod(found, found.pods[0])
    while replica._sampler._running:  # what was answered may still be on its way out
        time.sleep(0.0005)
    with ThreadPoolExecutor(1) as pool:
        under_way = pool.submit(_answer, stage, model)
        while not (replica._sampler._running or under_way.done()):
            time.sleep(0.0005)
        claim(deployments.load(stage, snapshot), deployments.first_error(stage))
        return before, under_way.result()


def _answer(stage: Stage, model: str) -> list[float]:
    answer = deployments.complete(stage, model, max_tokens=LENGTH, logprobs=True, ignore_eos=True)
    return [row["logprob"] for row in answer.json()["choices"][0]["logprobs"]["content"]]
