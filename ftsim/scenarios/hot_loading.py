"""Failures of loading a snapshot onto replicas, and of the status that tells of it."""

from ftsim.scenarios import scenario
from ftsim.scenarios.support import deployments
from ftsim.scenarios.support.report import SDK_1_2_28, Report, claim, refusal, still_upstream
from ftsim.scenarios.support.stage import BASE, Stage, train


@scenario("E1", "reset_prompt_cache is refused: 400, Extra inputs are not permitted")
def reset_prompt_cache_is_refused(stage: Stage) -> Report:
    """The field reset_prompt_cache is refused by some serving stacks."""
    client = stage.client()
    deployments.deploy(stage)
    train(client, 0)
    first, second = deployments.save(client, "one"), deployments.save(client, "two")
    stage.quirks.set("hotload.reset_prompt_cache", "reject")
    naive = stage.http.post(
        deployments.PATH, headers=deployments.headers(stage), json={"identity": first, "reset_prompt_cache": True}
    )
    claim(naive.status_code == 400 and "Extra inputs are not permitted" in naive.text, naive.text)
    claim(
        deployments.load(stage, first) and deployments.load(stage, second),
        f"not loaded: {deployments.first_error(stage)}",
    )
    sent = ["reset_prompt_cache" in body for body in deployments.requests(stage)]
    claim(sent == [True, True, False, False], f"the field was sent {sent}")
    return Report(
        sees=[f"a client without a second try: {naive.json()['message']}"],
        exchanges=stage.exchanges("hot_load")[1:4],
        right=["the SDK asks again without the field, and remembers: the next load does not send it"],
    )


@scenario("E2", "an unknown body field is refused, an unknown header is ignored")
def an_unknown_field_is_refused(stage: Stage) -> Report:
    """Bodies are strict, headers are not: new things travel in headers."""
    client = stage.client()
    deployments.deploy(stage)
    train(client, 0)
    snapshot = deployments.save(client, "one")
    uri = "gs://bucket/prefix/"
    body = {"identity": snapshot, "path": uri}
    refused = stage.http.post(deployments.PATH, headers=deployments.headers(stage), json=body)
    claim(refused.status_code == 400 and "path: Extra inputs" in refused.text, refused.text)
    claim(deployments.served(stage) == [None], "a refused load changed something")
    claim(deployments.load(stage, snapshot, path=uri), f"not loaded: {deployments.first_error(stage)}")
    claim("path" not in deployments.requests(stage)[-1], f"the SDK sent {deployments.requests(stage)[-1]}")
    odd = {**deployments.headers(stage), "x-fireworks-not-heard-of": "1"}
    tolerant = stage.http.post(deployments.PATH, headers=odd, json={"identity": snapshot})
    claim(tolerant.status_code == 200, tolerant.text)
    return Report(
        sees=[f"a path in the body: {refused.json()['message']}"],
        exchanges=stage.exchanges("hot_load"),
        right=["the SDK puts the source URI into x-fireworks-hot-load-source-url, which servers may ignore"],
    )


@scenario("E3", "after a re-attach the status shows an error about an older snapshot")
def the_status_shows_an_old_error(stage: Stage) -> Report:
    """A fresh replica may still show the error of the load before it."""
    first, second = stage.client(), stage.client("job-2")
    deployments.deploy(stage)
    train(first, 0)
    claim(deployments.load(stage, deployments.save(first, "one")), "the first load should succeed")
    stage.quirks.set("hotload.stale_error_reads", 3)
    with deployments.patient(stage):
        stage.deployments.reattach_trainer(
            deployments.DEPLOYMENT, base_model=BASE, trainer_job_name=stage.job_name("job-2"), timeout_s=60
        )
    train(second, 0)
    wanted = deployments.save(second, "two")
    state = deployments.replicas(stage)[0]["loading_state"]
    claim(state["stage"] == "error" and state["target_snapshot_identity"] != wanted, f"the status shows {state}")
    loaded = deployments.load(stage, wanted)
    claim(loaded and deployments.served(stage) == [wanted], f"not loaded: {deployments.first_error(stage)}")
    return Report(
        sees=[f"before anything was sent to the new replica: {state}", "a client that stops at stage=error gives up"],
        exchanges=stage.exchanges("hot_load_status")[-3:],
        right=[f"an error counts only when it is about {wanted}; the SDK waits on, and it is loaded"],
    )


@scenario(
    "E4",
    "a load fails, the status does not say what failed: a full timeout instead of the error",
    upstream=SDK_1_2_28,
)
def the_error_does_not_say_its_snapshot(stage: Stage) -> Report:
    """An error that does not say which snapshot it is about is taken for an old one."""
    client = stage.client()
    deployments.deploy(stage)
    train(client, 0)
    snapshot = deployments.save(client, "one")
    stage.quirks.set("hotload.fail_next", True)
    stage.quirks.set("hotload.error_omits_target", True)
    slept = stage.time.slept
    loaded = deployments.load(stage, snapshot, timeout_seconds=600)
    waited = stage.time.slept - slept
    said = str(stage.deployments.last_hotload_error_message)
    seen = not loaded and waited >= 600 and "did not complete within 600s" in said
    still_upstream(SDK_1_2_28, seen, f"waited {waited:.0f} s: {said.splitlines()[0]}")
    before = deployments.served(stage)[0]
    stage.deployments.hotload(deployments.DEPLOYMENT, BASE, snapshot)
    failed = _failed(deployments.replicas(stage)[0], snapshot, before)
    claim(failed, "a right client should see the error at its first look")
    return Report(
        sees=[f"after {waited:.0f} s: {said.splitlines()[0]}", "the replica failed at once"],
        exchanges=stage.exchanges("hot_load_status")[-1:],
        right=[f"an error without a target, after its own request and nothing newer served, is its own: {failed}"],
    )


def _failed(replica: dict[str, object], snapshot: str, before: object) -> str:
    """The error of one's own load; "" while there is none."""
    state = replica["loading_state"] or {}
    assert isinstance(state, dict)
    about = state.get("target_snapshot_identity", snapshot)
    mine = state.get("stage") == "error" and about == snapshot and replica["current_snapshot_identity"] == before
    return str(state.get("error", "failed")) if mine else ""


@scenario("E5", "loading_state is null: an AttributeError swallowed at every poll, then a timeout", upstream=SDK_1_2_28)
def loading_state_is_null(stage: Stage) -> Report:
    """loading_state is null, and every look at the status fails in the client."""
    client = stage.client()
    deployments.deploy(stage)
    train(client, 0)
    snapshot = deployments.save(client, "one")
    stage.quirks.set("hotload.null_loading_state", True)
    slept = stage.time.slept
    loaded = deployments.load(stage, snapshot, timeout_seconds=600)
    waited = stage.time.slept - slept
    replica = deployments.replicas(stage)[0]
    claim(replica["current_snapshot_identity"] == snapshot and replica["readiness"], f"the replica shows {replica}")
    still_upstream(SDK_1_2_28, not loaded and waited >= 600, f"loaded at once, given up after {waited:.0f} s")
    stage_ = (replica.get("loading_state") or {}).get("stage", "unknown")
    return Report(
        sees=[
            f"False after {waited:.0f} s: {str(stage.deployments.last_hotload_error_message).splitlines()[0]}",
            f"all the while the replica serves {snapshot}",
        ],
        exchanges=stage.exchanges("hot_load_status")[-1:],
        right=[f"reads null as an empty object (stage {stage_}) and finds the snapshot at its first look"],
    )


@scenario("E6", "the hot-load status comes without replicas, empty, or by adapter")
def the_status_has_another_form(stage: Stage) -> Report:
    """The status has had several forms."""
    client = stage.client()
    deployments.deploy(stage)
    train(client, 0)
    snapshot = deployments.save(client, "one")
    shape = "hotload.status_shape"
    with stage.quirks.set(shape, "legacy"):
        legacy = refusal(deployments.load, stage, snapshot)
        old = deployments.status(stage)
    claim(isinstance(legacy, RuntimeError) and "Unrecognized hotload status" in str(legacy), f"{legacy!r}")
    with stage.quirks.set(shape, "adapters"):
        adapters = deployments.replicas(stage)[0]
        claim(deployments.load(stage, snapshot), "a snapshot listed under loaded_adapters is loaded")
    claim(adapters["current_snapshot_identity"] is None, f"adapters show {adapters}")
    stage.quirks.set(shape, "empty", for_s=30)
    slept = stage.time.slept
    claim(deployments.load(stage, snapshot), "an empty list means that replicas are coming")
    waited = stage.time.slept - slept
    claim(waited >= 25, f"waited only {waited:.0f} s")
    claim(old["current_snapshot_identity"] == snapshot, f"the old form shows {old}")
    return Report(
        sees=[f"without replicas: {str(legacy).splitlines()[0]}", f"an empty list: the SDK waited {waited:.0f} s"],
        exchanges=stage.exchanges("hot_load_status")[:1],
        right=["reads current_snapshot_identity where it stands, or loaded_adapters with status loaded, or waits"],
    )


@scenario("E7", "complete, says the client, while the second replica serves the old weights", upstream=SDK_1_2_28)
def one_replica_is_looked_at(stage: Stage) -> Report:
    """Several replicas load at different speeds, and one of them is looked at."""
    client = stage.client()
    model = deployments.deploy(stage, replicas=2)
    train(client, 0)
    claim(deployments.load(stage, deployments.save(client, "one")), deployments.first_error(stage))
    train(client, 1, 2, 3)
    stage.quirks.set("hotload.lag_s", 30.0)
    snapshot = deployments.save(client, "two")
    loaded = deployments.load(stage, snapshot)
    shown = deployments.served(stage)
    seen = loaded and shown[0] == snapshot and shown[1] != snapshot
    still_upstream(SDK_1_2_28, seen, f"loaded {loaded}, the replicas show {shown}")
    claim(len(set(deployments.weights(stage))) == 2, "both replicas hold the same weights")
    answers = [deployments.complete(stage, model, logprobs=True).json()["choices"][0] for _ in range(2)]
    logprobs = [answer["logprobs"]["content"][0]["logprob"] for answer in answers]
    claim(logprobs[0] != logprobs[1], f"two requests should meet two policies: {logprobs}")
    waited = deployments.everywhere(stage, snapshot)
    claim(len(set(deployments.weights(stage))) == 1, "the replicas differ after waiting for both")
    return Report(
        sees=[
            f"hotload_and_wait: {loaded}; the replicas serve {shown}",
            f"one prompt twice, first log-probability {logprobs[0]:.4f} and {logprobs[1]:.4f}: mixed rollouts",
        ],
        exchanges=stage.exchanges("hot_load_status")[1:2],
        right=[f"waits until every replica serves {snapshot}: {waited:.0f} s more"],
    )


@scenario("E8", "a load sent before the hot-load manager is up crashes the replica")
def a_load_before_the_manager_is_up(stage: Stage) -> Report:
    """A replica answers healthz before it can take weights; what comes too early kills it."""
    client = stage.client()
    train(client, 0)
    snapshot = deployments.save(client, "one")
    stage.quirks.set("hotload.manager_ready_after_s", 60.0)
    deployments.deploy(stage)
    state = stage.deployments.get(deployments.DEPLOYMENT).state
    claim(state == "READY" and deployments.replicas(stage) == [], f"{state} with {deployments.replicas(stage)}")
    stage.deployments.hotload(deployments.DEPLOYMENT, BASE, snapshot)
    early = stage.exchanges("hot_load")
    broken = stage.deployments.get(deployments.DEPLOYMENT).state
    stage.clock.advance(61)
    error = deployments.first_error(stage)
    claim(broken == "FAILED" and "crashed" in error, f"{broken}: {error}")
    with deployments.patient(stage):
        deployments.deploy(stage)  # a failed deployment is made anew
        weights = deployments.syncer(stage, client)
        slept = stage.time.slept
        weights.wait_for_hotload_ready()
        loaded = weights.hotload(snapshot, "base")
    claim(loaded and deployments.served(stage) == [snapshot], deployments.first_error(stage))
    return Report(
        sees=[f"the deployment is {state}, the load is sent, the deployment is {broken}", error],
        exchanges=early,
        right=[f"waits until the status lists replicas, {stage.time.slept - slept:.0f} s, and only then loads"],
    )


@scenario("E12", "an adapter sent with incremental metadata kills the serving container")
def an_adapter_with_incremental_metadata(stage: Stage) -> Report:
    """An adapter is whole by itself and carries no sums for single tensors."""
    client = stage.client(rank=4)
    deployments.deploy(stage)
    careless = deployments.syncer(stage, client)  # lora_rank is left at 0
    train(client, 0)
    deployments.sync(stage, careless, "one")
    (before,) = deployments.replicas(stage)
    train(client, 1)
    error = refusal(deployments.sync, stage, careless, "two")
    (after,) = deployments.replicas(stage)
    claim("incremental_snapshot_metadata" in deployments.requests(stage)[-1], "metadata should have been sent")
    claim(
        "KeyError" in deployments.first_error(stage) and after["identity"] != before["identity"],
        f"{before}, then {after}",
    )
    claim(after["current_snapshot_identity"] is None, "a fresh container holds no adapter")
    crashed = deployments.first_error(stage)
    careful = deployments.syncer(stage, client, lora_rank=4)
    for step in (2, 3):
        train(client, step)
        snapshot = deployments.sync(stage, careful, f"right-{step}")
        claim(deployments.served(stage) == [snapshot], deployments.first_error(stage))
    plain = ["incremental_snapshot_metadata" not in body for body in deployments.requests(stage)[-2:]]
    claim(all(plain), "a LoRA client should send no metadata")
    return Report(
        sees=[str(error).splitlines()[0], f"{before['identity']}: {crashed}", "a new container without the adapter"],
        exchanges=stage.exchanges("hot_load")[1:2],
        right=["WeightSyncer(lora_rank=4) saves whole adapters and never sends metadata"],
    )
