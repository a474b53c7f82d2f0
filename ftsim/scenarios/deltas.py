"""Failures of chains of deltas: a link is missing, applied twice, or sent as if it were whole."""

from typing import Any

from ftsim.scenarios import scenario
from ftsim.scenarios.support import deployments
from ftsim.scenarios.support.report import SDK_1_2_28, Report, claim, refusal, still_upstream
from ftsim.scenarios.support.stage import BASE, Stage, train


@scenario("B11", "an explicit delta as the first save has no base, and the SDK lets it through", upstream=SDK_1_2_28)
def the_first_save_is_a_delta(stage: Stage) -> Report:
    """The first save of a full-parameter model is asked to be a delta: against what?"""
    client = stage.client()
    error = refusal(client.save_weights_for_sampler_ext, "first", checkpoint_type="delta")
    sent = stage.exchanges("save_weights_for_sampler")[0]
    still_upstream(SDK_1_2_28, sent.json["checkpoint_type"] == "delta", "the SDK sends a delta that has no base")
    claim("save base first" in str(error), f"refused with {error}")
    with stage.quirks.set("sampler.delta_without_base", "store"):
        client.save_weights_for_sampler_ext("stored", checkpoint_type="delta")
    ours = stage.client("job-2")
    for name in ("first", "second"):
        ours.save_weights_for_sampler_ext(name)
        train(ours, 0)
    kinds = [row.kind.value.removeprefix("CHECKPOINT_TYPE_") for row in stage.rows("job-2")]
    claim(kinds == ["INFERENCE_BASE", "INFERENCE_ARC_V2"], f"the kinds are {kinds}")
    stored = stage.rows("job-1")[-1].kind
    return Report(
        sees=[f"refused: {str(error)[:140]}", f"or, with another server, stored: the row is {stored.value}"],
        exchanges=[sent],
        right=[f"leave checkpoint_type out, or save base first: {', '.join(kinds)}"],
    )


@scenario(
    "E9",
    "the first load fails, and the next save is a delta that is sent as if it were whole",
    upstream=SDK_1_2_28,
)
def a_delta_after_a_failed_first_load(stage: Stage) -> Report:
    """The client notes that a base was saved, whether or not it was loaded."""
    client = stage.client()
    deployments.deploy(stage)
    weights = deployments.syncer(stage, client)
    stage.quirks.set("hotload.fail_next", True, times=1)
    train(client, 0)
    refusal(deployments.sync, stage, weights, "one")
    train(client, 1)
    error = refusal(deployments.sync, stage, weights, "two")
    sent = deployments.requests(stage)
    metadata = ["incremental_snapshot_metadata" in body for body in sent]
    kinds = [row.kind.value.rpartition("INFERENCE_")[2] for row in stage.rows("job-1")]
    seen = kinds == ["BASE", "ARC_V2"] and metadata == [False, False]
    still_upstream(SDK_1_2_28, seen, f"saved {kinds}, metadata sent {metadata}")
    why = deployments.first_error(stage)
    managed = _managed(stage, client)
    still_upstream(SDK_1_2_28, managed == (False, False), f"the managed path sent metadata {managed}")
    weights.reset_delta_chain()
    train(client, 2)
    snapshot = deployments.sync(stage, weights, "three", "base")
    claim(deployments.served(stage) == [snapshot], deployments.first_error(stage))
    return Report(
        sees=[str(error).splitlines()[0], f"the replica: {why}", f"saved {', '.join(kinds)}, both loaded as whole"],
        exchanges=stage.exchanges("hot_load")[:2],
        right=[f"after a failed load forgets the chain and saves all: {snapshot} is served"],
    )


def _managed(stage: Stage, client: Any) -> tuple[bool, bool]:
    """The same through the managed path's own book-keeping: was metadata sent with the base, with the delta?"""
    from fireworks.training.sdk.managed import _TinkerSamplerBackend

    backend = _TinkerSamplerBackend(stage.deployments, deployments.DEPLOYMENT, BASE)
    before = len(deployments.requests(stage))
    stage.quirks.set("hotload.fail_next", True, times=1)
    for name, kind in (("managed-one", "base"), ("managed-two", "delta")):
        train(client, 3)
        snapshot = deployments.save(client, name, kind)
        backend.remember_saved_snapshot(snapshot, kind)
        with deployments.patient(stage):
            claim(not backend.hotload_saved_snapshot(snapshot), f"{kind} should not load")
    first, second = ("incremental_snapshot_metadata" in body for body in deployments.requests(stage)[before:])
    return first, second


@scenario("E10", "a save that was never loaded breaks the chain of deltas: checksum mismatch", upstream=SDK_1_2_28)
def a_save_that_was_never_loaded(stage: Stage) -> Report:
    """A delta is against what the trainer saved last; the deployment may hold something older."""
    client = stage.client()
    deployments.deploy(stage)
    weights = deployments.syncer(stage, client)
    train(client, 0)
    base = deployments.sync(stage, weights, "one")
    before = deployments.weights(stage)
    train(client, 1)
    skipped = weights.save_only("two")
    train(client, 2)
    error = refusal(deployments.sync, stage, weights, "three")
    said = deployments.first_error(stage)
    sent = deployments.requests(stage)[-1]["incremental_snapshot_metadata"]
    seen = sent["previous_snapshot_identity"] == base and "hecksum" in said
    still_upstream(SDK_1_2_28, seen, f"metadata {sent}, refused with {said!r}")
    claim(deployments.weights(stage) == before, "a refused delta should leave what is served")
    delta = stage.rows("job-1")[-1]
    claim(delta.previous_snapshot == skipped, f"the delta is against {delta.previous_snapshot}")
    claim(not deployments.load(stage, delta.id, deployments.after(str(skipped))), "two behind should be refused")
    behind = deployments.first_error(stage)
    whole = deployments.sync(stage, weights, "four", "base")
    claim(deployments.served(stage) == [whole], deployments.first_error(stage))
    return Report(
        sees=[str(error).splitlines()[0], said, f"with the true predecessor named: {behind}"],
        exchanges=stage.exchanges("hot_load")[1:2],
        right=[f"sends a full snapshot whenever what was saved and what is served differ: {whole}"],
    )


@scenario("E11", "a failed delta applied in place ruins the weights that it should have been applied to")
def a_failed_delta_ruins_the_weights(stage: Stage) -> Report:
    """An engine that works on its only copy has spoiled it before it finds out."""
    client = stage.client()
    model = deployments.deploy(stage)
    train(client, 0)
    base = deployments.save(client, "one")
    claim(deployments.load(stage, base), deployments.first_error(stage))
    train(client, 1)
    deployments.save(client, "skipped", "delta")
    train(client, 2)
    delta = deployments.save(client, "three", "delta")
    good, text = deployments.weights(stage), _first(stage, model)
    claim(not deployments.load(stage, delta, deployments.after(base)), "the delta does not fit and should be refused")
    claim(deployments.weights(stage) == good, "on a copy a failure should leave the weights")
    stage.quirks.set("hotload.delta_apply", "inplace")
    claim(not deployments.load(stage, delta, deployments.after(base)), "the delta does not fit and should be refused")
    said, spoiled = deployments.first_error(stage), _first(stage, model)
    claim(deployments.weights(stage) != good and spoiled != text, f"in place the weights should be spoiled: {spoiled}")
    claim(deployments.served(stage) == [base], f"the status shows {deployments.served(stage)}")
    train(client, 3)
    whole = deployments.save(client, "four")
    claim(deployments.load(stage, whole) and deployments.served(stage) == [whole], deployments.first_error(stage))
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
    answer = deployments.complete(stage, model, logprobs=True)
    if answer.status_code != 200:
        return f"HTTP {answer.status_code}"
    return str(answer.json()["choices"][0]["logprobs"]["content"][0]["logprob"])


@scenario("E13", "a restarted client forgets the chain: a delta goes out as if it were whole", upstream=SDK_1_2_28)
def a_restarted_client_forgets_the_chain(stage: Stage) -> Report:
    """The client object alone knows which save was of which type, and a restart loses it."""
    client = stage.client()
    deployments.deploy(stage)
    before = deployments.syncer(stage, client)
    train(client, 0)
    deployments.sync(stage, before, "one")
    train(client, 1)
    delta = deployments.sync(stage, before, "two")
    train(client, 2)
    deployments.sync(stage, before, "three")
    reloaded = deployments.load(stage, delta)  # by a new process that knows the name and not the type
    as_base = deployments.first_error(stage)
    claim(not reloaded and "without incremental_snapshot_metadata" in as_base, as_base)
    restarted = deployments.syncer(stage, client, first_checkpoint_type="delta")
    train(client, 3)
    error = refusal(deployments.sync, stage, restarted, "four")
    body = deployments.requests(stage)[-1]
    kind = stage.rows("job-1")[-1].kind.value
    seen = kind.endswith("ARC_V2") and "incremental_snapshot_metadata" not in body
    still_upstream(SDK_1_2_28, seen, f"a restarted client sent {kind} as {body}")
    said = deployments.first_error(stage)
    train(client, 4)
    whole = deployments.sync(stage, deployments.syncer(stage, client), "five")
    claim(deployments.served(stage) == [whole], deployments.first_error(stage))
    return Report(
        sees=[f"an old delta by name: {as_base}", str(error).splitlines()[0], f"first_checkpoint_type='delta': {said}"],
        exchanges=stage.exchanges("hot_load")[3:4],
        right=[f"a new client sends a full snapshot first: {whole}"],
    )


@scenario("E25", "a load succeeds after the client gave up, and the next delta refers to the snapshot before")
def a_load_succeeds_after_the_client_gave_up(stage: Stage) -> Report:
    """The client gives up, the deployment does not."""
    client = stage.client()
    deployments.deploy(stage)
    weights = deployments.syncer(stage, client)
    train(client, 0)
    first = deployments.sync(stage, weights, "one")
    train(client, 1)
    stage.quirks.set("hotload.duration_s", 700.0, times=1)
    gave_up = refusal(deployments.sync, stage, weights, "two")
    shown = deployments.served(stage)
    stage.clock.advance(700)
    (second,) = deployments.served(stage)
    claim(shown == [first] and second != first, f"{shown} at the timeout, then {second}")
    train(client, 2)
    error = refusal(deployments.sync, stage, weights, "three")
    named = deployments.requests(stage)[-1]["incremental_snapshot_metadata"]["previous_snapshot_identity"]
    said = deployments.first_error(stage)
    claim(named == first and "the replica holds" in said, f"{named}: {said}")
    current = weights.check_deployment_state()
    last = stage.rows("job-1")[-1]
    claim(current != last.id, "what was saved last is not what is served")
    train(client, 3)
    whole = deployments.sync(stage, weights, "four", "base")
    claim(deployments.served(stage) == [whole], deployments.first_error(stage))
    return Report(
        sees=[
            str(gave_up).splitlines()[0],
            f"100 s later the deployment serves {second}",
            str(error).splitlines()[0],
            said,
        ],
        exchanges=stage.exchanges("hot_load")[2:3],
        right=[f"reads what is served ({current}) before the next save; it is not the last save, so a full snapshot"],
    )
