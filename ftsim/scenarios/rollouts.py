"""Failures of sampling for training: weights without a name, log-probabilities of another distribution, lost routes."""

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ftsim.scenarios import scenario
from ftsim.scenarios.support import deployments
from ftsim.scenarios.support.report import Report, claim, refusal
from ftsim.scenarios.support.stage import BASE, EXPERTS, Stage, train

_LENGTH = 100


@scenario("E31", "425 in the mode of which the page says that it gives no errors")
def a_request_is_drained(stage: Stage) -> Report:
    """A request that meets a load is put off, for as long as its header says and no longer."""
    client = stage.client()
    model = deployments.deploy(stage)
    train(client, 0)
    snapshot = deployments.save(client, "one")
    stage.quirks.set("hotload.duration_s", 60.0)
    stage.quirks.set("inference.during_load", "drain")
    stage.deployments.hotload(deployments.DEPLOYMENT, BASE, snapshot)
    began = time.perf_counter()
    early = stage.http.post("/inference/v1/completions", json=_body(model), headers={_DRAIN: "0.05"})
    waited = time.perf_counter() - began
    claim(early.status_code == 425 and waited >= 0.05, f"{early.status_code} after {waited:.3f} s")
    with ThreadPoolExecutor(1) as pool:
        patient = pool.submit(stage.http.post, "/inference/v1/completions", json=_body(model))
        stage.clock.advance(61)
        deployments.everywhere(stage, snapshot)
        answer = patient.result()
    claim(answer.status_code == 200, answer.text)
    return Report(
        sees=[f"{_DRAIN}: 0.05, and a load of a minute: {early.status_code} {early.json()['message']}"],
        exchanges=stage.exchanges("completions")[:1],
        right=["asks again with the same session, for longer than a load takes: answered when the load is done"],
    )


_DRAIN = "x-fireworks-hot-load-drain-timeout"


def _body(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "prompt": [1, 2, 3], "max_tokens": 4, "temperature": 0, **more}


@scenario("E32", "an answer does not say which weights it is of; a stream names two")
def an_answer_names_its_weights(stage: Stage) -> Report:
    """Chunks of a stream end the model's name in @snapshot; whole answers name what was asked for."""
    client = stage.client()
    model = deployments.deploy(stage)
    train(client, 0)
    first, second = deployments.save(client, "one"), ""
    claim(deployments.load(stage, first), deployments.first_error(stage))
    whole = deployments.complete(stage, model).json()["model"]
    train(client, 1)
    second = deployments.save(client, "two")
    names = _streamed_across_a_load(stage, model, second)
    tags = list(dict.fromkeys(name.partition("@")[2] for name in names))
    claim(whole == model and tags == [first, second], f"{whole}; {tags}")
    with stage.quirks.set("inference.stream_model", "deployment"):
        silent = _streamed(stage, model, 4)
        claim({name for name in silent} == {model}, f"{silent}")
    stage.quirks.set("inference.stream_model", "everywhere")
    told = deployments.complete(stage, model).json()["model"]
    claim(told == f"{BASE}@{second}", told)
    return Report(
        sees=[f"a whole answer: {whole}", f"one stream with a load in its middle: {' and then '.join(tags)}"],
        exchanges=stage.exchanges("completions")[:1],
        right=["streams, and takes the tag of each chunk for the version of its tokens"],
    )


def _streamed_across_a_load(stage: Stage, model: str, snapshot: str) -> list[str]:
    """Names of the model in the chunks of a long answer, with a load under way once it has begun."""
    with ThreadPoolExecutor(1) as pool:
        loads: list[Any] = []
        names = _streamed(stage, model, _LENGTH, lambda: loads.append(pool.submit(deployments.load, stage, snapshot)))
        claim(loads and loads[0].result(), deployments.first_error(stage))
    return names


def _streamed(stage: Stage, model: str, length: int, begun: Any = None) -> list[str]:
    names = []
    body = _body(model, max_tokens=length, stream=True, ignore_eos=True)
    with stage.http.stream("POST", "/inference/v1/completions", json=body) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                names.append(str(json.loads(line[6:])["model"]))
                if begun and len(names) == 1:
                    begun()
    return names


@scenario("E33", "the policy's version is stamped at the wrong moment, and staleness is not what it seems")
def a_version_is_stamped_at_the_wrong_moment(stage: Stage) -> Report:
    """A rollout that waits in a queue is sent after a swap; one that is under way is answered after it."""
    client = stage.client()
    model = deployments.deploy(stage)
    stage.quirks.set("inference.stream_model", "everywhere")
    versions = {}
    for version in (1, 2):
        train(client, version)
        queued = max(1, version - 1)  # it was queued before this sync, and is sent only now
        snapshot = deployments.save(client, f"v{version}")
        claim(deployments.load(stage, snapshot), deployments.first_error(stage))
        sent = version
        answered = deployments.complete(stage, model).json()["model"].partition("@")[2]
        versions[version] = (queued, sent, answered)
    stamped, pinned, truth = versions[2]
    claim(stamped == 1 and pinned == 2 and truth.startswith("v2-"), f"{versions}")
    stage.quirks.set("hotload.duration_s", 60.0)
    train(client, 3)
    stage.deployments.hotload(deployments.DEPLOYMENT, BASE, deployments.save(client, "v3"))
    late = deployments.complete(stage, model).json()["model"].partition("@")[2]
    claim(late.startswith("v2-"), f"the load is under way, {late} answers")
    return Report(
        sees=[
            f"stamped when it was queued: {stamped}; the answer is of {truth}",
            f"counted by update calls it is 3 after the third signal, which takes a minute; {late} answers",
        ],
        exchanges=stage.exchanges("completions")[-2:],
        right=[f"pins the version when the request goes out ({pinned}), better: takes the answer's own tag, {truth}"],
    )


_ROUTED: dict[str, Any] = {
    "prompt_token_ids": [1, 2, 3],
    "max_tokens": 2,
    "include_routing_matrix": True,
    "logprobs": True,
}


@scenario("E39", "router replay is switched on, and later turns come without routes: training as if it were off")
def routes_are_lost_on_later_turns(stage: Stage) -> Report:
    """A gateway between client and server gives routes for the first turn of an episode alone."""
    model = deployments.deploy(stage, None, base_model=EXPERTS)
    whole = _routes(stage, model)
    claim(all(whole), f"{whole}")
    stage.quirks.set("inference.routing", "first_turn")
    turns = [_routes(stage, model, {"x-multi-turn-session-id": "episode-1"}) for _ in range(3)]
    counted = [sum(map(bool, turn)) for turn in turns]
    claim(counted[0] > 0 and counted[1:] == [0, 0], f"routes by turn: {counted}")
    share = sum(bool(turn and all(turn)) for turn in turns) / len(turns)
    told = refusal(_all_routed, turns)
    return Report(
        sees=[f"tokens with a route, turn by turn: {counted}; every answer is a 200"],
        exchanges=stage.exchanges("completions")[-2:],
        right=[f"counts datums with routes and stops below all of them ({share:.0%}): {told}"],
    )


def _all_routed(turns: list[list[str]]) -> None:
    bare = [number for number, turn in enumerate(turns, 1) if not (turn and all(turn))]
    if bare:
        raise RuntimeError(f"turns {bare} have no routes: router replay would be off for them")


def _routes(stage: Stage, model: str, headers: dict[str, str] | None = None) -> list[str]:
    """The route of each token of an answer, by the SDK's sampler."""
    (sampled,) = _sample(stage, model, additional_headers_snapshot=headers, **_ROUTED)
    return list(sampled.routing_matrices or [])


def _sample(stage: Stage, model: str, trainer: tuple[str, str | None] | None = None, **options: Any) -> list[Any]:
    """One request of the SDK's sampler; `trainer` is the format and the store that a trainer named."""
    from fireworks.training.sdk import DeploymentSampler, errors, sampling

    async def run() -> list[Any]:
        sampler = DeploymentSampler(inference_url=stage.url, model=model, api_key=stage.key)
        if trainer is not None:
            sampler.negotiate_routing_matrix_format(*trainer)
        try:
            found: list[Any] = await sampler.sample_with_prompt_tokens(**options)
            return found
        finally:
            sampler.close()
            await asyncio.sleep(0.01)  # its connections close in a task

    with stage.fake_time(sampling, errors):
        return asyncio.run(run())


@scenario("E40", "routes as files: a replica that does not know the format, and the way back to inline routes")
def routes_as_files(stage: Stage) -> Report:
    """The trainer names a format and a store; a replica refuses the field, and the client goes back for good."""
    stage.quirks.set("routing.trainer_format", "parquet_v1")
    stage.job("moe", base_model=EXPERTS)
    client = stage.service("moe").create_training_client(base_model=EXPERTS, lora_rank=0)
    offered = stage.exchanges("retrieve_future")[-1].answer
    claim(offered["routing_matrix_format"] == "parquet_v1" and offered["r3_store_id"], f"{offered}")
    model = deployments.deploy(stage, None, base_model=EXPERTS)
    (sampled,) = _sample(stage, model, ("parquet_v1", offered["r3_store_id"]), **_ROUTED)
    asked = stage.exchanges("completions")
    claim([exchange.status for exchange in asked] == [400, 200], f"{[exchange.answer for exchange in asked]}")
    said = asked[0].answer["error"]["message"]
    claim("field: 'routing_matrix_format'" in said and all(sampled.routing_matrices), f"{said}")
    mixed = refusal(_mixed, sampled.routing_matrices)
    claim("Cannot mix inline and Parquet" in str(mixed), f"{mixed}")
    claim(client.model_id, "the trainer serves")
    return Report(
        sees=[f"the probe: {said}", f"and in the middle of a trajectory: {mixed}"],
        exchanges=asked[:1],
        right=[
            "binds the sampler to its trainer, probes once, goes back to inline routes for good, and keeps a "
            "segment boundary there"
        ],
    )


def _mixed(inline: list[str]) -> None:
    """Put inline routes of one turn and files of another into one trajectory."""
    from fireworks.training.sdk.routing import RoutingReferences, concat_routing

    file = {"store_id": "s", "format": "parquet_v1", "row_count": 1}
    span = {"input_token_start": 0, "count": 1, "file_index": 0, "file_row_start": 0}
    concat_routing(inline, RoutingReferences(1, (file,), (span,)))


@scenario("E41", "routes are asked of a deployment that has none: every completion is a 400")
def routes_of_a_model_without_routers(stage: Stage) -> Report:
    """A dense model has no routes, and a server without replay does not know the field: the run never starts."""
    dense = deployments.deploy(stage, None)
    refused = refusal(_sample, stage, dense, **_ROUTED)
    asked = stage.exchanges("completions")
    claim(asked[-1].status == 400 and "no routers" in str(asked[-1].answer), f"{refused}: {asked[-1].answer}")
    experts = deployments.deploy(stage, None, deployment_id="dep-2", base_model=EXPERTS)
    with stage.quirks.set("inference.routing", "refused"):
        unknown = refusal(_sample, stage, experts, **_ROUTED)
    claim("include_routing_matrix" in str(stage.exchanges("completions")[-1].answer), f"{unknown}")
    trainer = stage.client()
    told = [
        one.answer["supports_router_replay"]
        for one in stage.exchanges("retrieve_future")
        if "supports_router_replay" in one.answer
    ]
    claim(
        told[-1:] == [False] and trainer.supports_router_replay is False, f"the trainer of the dense model says {told}"
    )
    (plain,) = _sample(stage, dense, **{**_ROUTED, "include_routing_matrix": trainer.supports_router_replay})
    claim(plain.text is not None, "without routes the run starts")
    return Report(
        sees=[f"a dense model: {_message(asked[-1].answer)}", f"a server without replay: {str(unknown)[:160]}"],
        exchanges=asked[-1:],
        right=["asks the trainer, whose word wins: supports_router_replay is false, so routes are not asked for"],
    )


def _message(answer: dict[str, Any]) -> str:
    return str(answer.get("message") or answer.get("error", {}).get("message"))


@scenario("E42", "log-probabilities are not those of the distribution that was sampled from")
def log_probabilities_of_another_distribution(stage: Stage) -> Report:
    """With a temperature the raw values are not those of the sampler; some servers have nothing else to give."""
    model = deployments.deploy(stage, None)
    options: dict[str, Any] = {
        "prompt_token_ids": [1, 2, 3],
        "max_tokens": 4,
        "temperature": 0.5,
        "logprobs": True,
        "seed": 3,
    }
    (both,) = _sample(stage, model, **options)
    raw, sampled = both.inference_logprobs, both.sampling_logprobs
    claim(raw and sampled and abs(raw[0] - sampled[0]) > 1e-3, f"raw {raw}, sampled {sampled}")
    errors = {}
    for rule in ("raw_only", "null_sampling"):
        with stage.quirks.set("inference.logprobs", rule):
            (bare,) = _sample(stage, model, **options)
            errors[rule] = bare.sampling_logprobs
    claim(not any(any(value is not None for value in found or []) for found in errors.values()), f"{errors}")
    with stage.quirks.set("inference.logprobs", "raw_only"):
        (plain,) = _sample(stage, model, **{**options, "temperature": 1.0})
    claim(plain.sampling_logprobs == plain.inference_logprobs, "at temperature 1 both are the same")
    ratio = sum(a - b for a, b in zip(raw, sampled, strict=True))
    return Report(
        sees=[
            f"at temperature 0.5, raw {raw[0]:.4f}, as sampled {sampled[0]:.4f}: an importance ratio that takes the "
            f"first for the second is wrong by a factor of e^{ratio:.2f}",
            f"a server that knows raw values alone: sampling_logprobs {errors['raw_only']}",
        ],
        exchanges=stage.exchanges("completions")[:1],
        right=["uses sampling_logprob, and computes it anew from the trainer where there is none"],
    )
