"""Failures of bringing new weights to a deployment: fields, caches, transfers, replicas that restart."""

from typing import Any

from ftsim.scenarios import scenario
from ftsim.scenarios.support import deployments
from ftsim.scenarios.support.report import SDK_1_2_28, Report, claim, refusal, still_upstream
from ftsim.scenarios.support.stage import BASE, Stage, train


@scenario("E27", "reset_prompt_cache is a word now: a server that knows booleans alone refuses every weight sync")
def reset_prompt_cache_is_a_word(stage: Stage) -> Report:
    """Servers and clients of different dates: no such field, a boolean, a word."""
    client = stage.client()
    deployments.deploy(stage)
    train(client, 0)
    snapshot = deployments.save(client, "one")
    for word in ("all", "new_session", "none"):
        claim(deployments.load(stage, snapshot, reset_prompt_cache=word), f"{word} is refused today")
    stage.quirks.set("hotload.reset_prompt_cache", "bool_only")
    fatal = refusal(deployments.load, stage, snapshot, reset_prompt_cache="new_session")
    said = stage.exchanges("hot_load")[-1]
    claim(said.status == 400 and "valid bool" in said.answer["message"], f"{said.answer}")
    asked = len(stage.exchanges("hot_load"))
    still_upstream(SDK_1_2_28, asked == 4, f"a 400 of another wording is not asked again: {asked} requests, {fatal}")
    right = _in_a_form_that_it_takes(stage, snapshot)
    stage.quirks.set("hotload.reset_prompt_cache", "string_only")
    old = refusal(deployments.load, stage, snapshot, reset_prompt_cache=True)
    claim("valid string" in stage.exchanges("hot_load")[-1].answer["message"], f"{old}")
    claim(_in_a_form_that_it_takes(stage, snapshot) == "new_session", "the word should do")
    return Report(
        sees=[
            f"a word at a server that knows booleans: {said.answer['message']}; the SDK gives up: {str(fatal)[:100]}"
        ],
        exchanges=[said],
        right=[f"tries the word, then the boolean, and remembers what was taken: {right!r}"],
    )


def _in_a_form_that_it_takes(stage: Stage, snapshot: str) -> object:
    """Load with the first of three forms that the server does not refuse; the form."""
    for form in ("new_session", True, None):
        body: dict[str, Any] = {"identity": snapshot} | ({} if form is None else {"reset_prompt_cache": form})
        if stage.http.post(deployments.PATH, headers=deployments.headers(stage), json=body).status_code == 200:
            return form
    raise RuntimeError("the server takes none of the forms")


_TURN = [5, 9, 13, 17, 21, 25, 29, 33]


@scenario("E28", "new weights over an old prompt cache: log-probabilities of no policy that there was")
def new_weights_over_an_old_cache(stage: Stage) -> Report:
    """Positions of an earlier turn stay as the old weights computed them; the new weights go on from there."""
    stage.quirks.set("hotload.prefix_cache", "kept")
    client = stage.client()
    model = deployments.deploy(stage)
    found = {}
    for how in ("none", "all"):
        first = _turn(stage, model, _TURN, how)
        train(client, *range(6))
        snapshot = deployments.save(client, f"after-{how}")
        claim(deployments.load(stage, snapshot, reset_prompt_cache=how), deployments.first_error(stage))
        prompt = [*_TURN, *first["token_ids"], 3, 7]
        kept = _turn(stage, model, prompt, how)
        clean = _turn(stage, model, prompt, f"another-{how}")
        found[how] = (_first(kept), _first(clean))
    old, new = found["none"]
    claim(abs(old - new) > 1e-4, f"the second turn should be computed on the old positions: {found}")
    claim(abs(found["all"][0] - found["all"][1]) < 1e-5, f"after `all` both should be computed anew: {found}")
    again = deployments.save(client, "again")
    claim(deployments.load(stage, again, reset_prompt_cache="new_session"), deployments.first_error(stage))
    return Report(
        sees=[
            f"the second turn of an episode, loaded with `none`: first log-probability {old:.4f}",
            f"the same tokens under a session that is new: {new:.4f}, as the served weights have it",
        ],
        exchanges=stage.exchanges("hot_load")[:1],
        right=[
            "loads with `all` where ratios must be exact, or names a session for each trajectory and drops those "
            "that lived through a load"
        ],
    )


def _turn(stage: Stage, model: str, prompt: list[int], session: str) -> dict[str, Any]:
    """One turn of a conversation that names its session; the choice."""
    body = {
        "model": model,
        "prompt": prompt,
        "max_tokens": 4,
        "temperature": 0,
        "logprobs": True,
        "return_token_ids": True,
        "ignore_eos": True,
    }
    answer = stage.http.post(
        "/inference/v1/completions", json=body, headers={"x-multi-turn-session-id": f"episode-{session}"}
    )
    choice: dict[str, Any] = answer.json()["choices"][0]
    return choice


def _first(choice: dict[str, Any]) -> float:
    return float(choice["logprobs"]["content"][0]["logprob"])


@scenario("E34", "direct transfer is switched on in one half: no weight sync, and no way back to files")
def direct_transfer_in_one_half(stage: Stage) -> Report:
    """Trainer and replicas must both offer it; a client that finds one half stops, though files would do."""
    from fireworks.training.sdk.managed import _TinkerSamplerBackend

    def attached(job: str) -> Any:
        backend = _TinkerSamplerBackend(
            deploy_mgr=stage.deployments, deployment_id=deployments.DEPLOYMENT, base_model=BASE
        )
        return stage.client(job)._attach_sampler_backend(backend)

    stage.job()
    deployments.deploy(stage)
    stage.quirks.set("hotload.rdma", "one_side")
    half = refusal(attached, "job-1")
    claim("do not all support it" in str(half), f"{half}")
    stage.quirks.set("hotload.rdma", "on")
    client = attached("job-1")
    train(client, 0)
    missing = refusal(client.weight_sync().result)
    claim("trainer RDMA API is unavailable" in str(missing), f"{missing}")
    stage.quirks.set("hotload.rdma", "off")
    ours = attached("job-1")
    train(ours, 0)
    with deployments.patient(stage):
        version = ours.weight_sync().result().version
    claim(deployments.served(stage) == [version], deployments.first_error(stage))
    return Report(
        sees=[f"the trainer alone: {half}", f"both, with a trainer that lacks the call: {missing}"],
        exchanges=stage.exchanges("create_model", "hot_load_status")[:2],
        right=[f"looks at both flags before the loop; switched off in both halves files do: {version}"],
    )


@scenario("E35", "the replicas restart during a load: minutes of 503, then a timeout, and the next delta has no base")
def the_replicas_restart_during_a_load(stage: Stage) -> Report:
    """A full disk or an evicted pod: the container starts again and again, what it had loaded is gone."""
    client = stage.client()
    deployments.deploy(stage)
    weights = deployments.syncer(stage, client, hotload_timeout=600)
    train(client, 0)
    deployments.sync(stage, weights, "base")
    train(client, 1)
    stage.quirks.set("hotload.replica_restarts_s", 700.0, times=1)
    slept = stage.time.slept
    error = refusal(deployments.sync, stage, weights, "delta")
    waited = stage.time.slept - slept
    looks = stage.exchanges("hot_load_status")
    down = [exchange for exchange in looks if exchange.status == 503]
    claim(
        len(down) > 20 and waited >= 600 and "did not complete within 600s" in str(error),
        f"{waited:.0f} s: {error}",
    )
    stage.clock.advance(200)
    claim(deployments.served(stage) == [None], f"{deployments.served(stage)} is served")
    naive = refusal(deployments.sync, stage, weights, "next-delta")
    refused = deployments.first_error(stage)
    claim("send a full snapshot" in refused, f"{naive}: {refused}")
    weights.reset_delta_chain()
    full = deployments.sync(stage, weights, "full")
    claim(deployments.served(stage) == [full], deployments.first_error(stage))
    return Report(
        sees=[
            f"{len(down)} looks answered 503 ({down[0].answer['message']}), each a warning",
            str(error).splitlines()[0],
            f"the next delta: {refused}",
        ],
        exchanges=down[:1],
        right=[f"after two minutes of 503 looks at the deployment itself; then a full snapshot: {full}"],
    )


@scenario("E37", "a cache keyed by the adapter's name: the load is acknowledged, the adapter before it answers")
def a_cache_goes_by_the_name(stage: Stage) -> Report:
    """A snapshot under the name of the one that is served is taken for it, and not read."""
    stage.quirks.set("hotload.stale_cache", True)
    client = stage.client(rank=4)
    model = deployments.deploy(stage)
    train(client, 0)
    name = deployments.save(client, "policy")
    claim(deployments.load(stage, name), deployments.first_error(stage))
    before = _turn(stage, model, _TURN, "a")
    train(client, 1, 2, 3)
    claim(deployments.save(client, "policy") == name, "the name should be the same")
    claim(deployments.load(stage, name) and deployments.served(stage) == [name], deployments.first_error(stage))
    stale = _turn(stage, model, _TURN, "b")
    claim(_first(stale) == _first(before), f"{_first(before)} became {_first(stale)}")
    other = deployments.save(client, "policy-2")
    claim(deployments.load(stage, other), deployments.first_error(stage))
    after = _turn(stage, model, _TURN, "c")
    claim(_first(after) != _first(before), "under another name the new weights should answer")
    return Report(
        sees=[f"{name} is loaded a second time, stage done; a fixed prompt still has {_first(stale):.4f}"],
        exchanges=stage.exchanges("hot_load")[1:2],
        right=[f"a name that was never used: {other}, and the prompt has {_first(after):.4f}"],
    )
