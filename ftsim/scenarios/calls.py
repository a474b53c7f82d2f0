"""Failures of a single call: lost replies, results that do not come, errors of every shape."""

import json
import time
from threading import Event
from typing import Any

from ftsim.scenarios import scenario
from ftsim.scenarios.support import trainers
from ftsim.scenarios.support.report import Report, claim, refusal
from ftsim.scenarios.support.stage import BASE, Stage, train
from ftsim.testing.clients import RATE, batch
from ftsim.testing.wire import Wire


@scenario("F13", "a training call whose reply was lost is applied twice")
def a_training_call_is_applied_twice(stage: Stage) -> Report:
    """A reply is lost, the call is sent again: is it one step or two?"""
    doubled = _step(stage, "job-1", dedupe=False)
    right = _step(stage, "job-2", dedupe=True)
    claim((doubled, right) == (2, 1), f"{doubled} steps without and {right} with de-duplication")
    asked = [exchange.json["seq_id"] for exchange in stage.exchanges("optim_step")]
    claim(len(asked) == 4 and asked[0] == asked[1], f"optim_step was sent with {asked}")
    wire = Wire(stage.http, "job-2", account=stage.account, base_model=BASE)
    wire.run("optim_step", 1, adam_params={"learning_rate": 0.1})
    other = wire.run("optim_step", 1, adam_params={"learning_rate": 0.2})
    claim("sequence number was reused" in json.dumps(other), f"{other}")
    return Report(
        sees=[f"nothing: one optim_step was called, {doubled} optimizer steps were taken"],
        exchanges=stage.exchanges("optim_step")[:2],
        right=[
            f"a server that knows (model_id, seq_id) takes {right} step and gives the first answer again",
            f"the same number with another payload: {other['error']}",
        ],
    )


def _step(stage: Stage, job: str, *, dedupe: bool) -> int:
    """The optimizer steps that one call comes to when its reply is lost."""
    client = stage.client(job)
    client.forward_backward(batch(), "cross_entropy").result()
    stage.quirks.set("rpc.dedupe", dedupe, job=job)
    stage.quirks.set("http.lose_reply", "after", times=1, endpoint="optim_step", job=job)
    with trainers.patient(stage):
        client.optim_step(trainers.adam()).result()
    return trainers.steps(stage, client)


@scenario("F14", "410, promise expired: a step dies though the trainer is healthy")
def a_result_expires(stage: Stage) -> Report:
    """A result is kept for a while only, and may be gone before it is fetched."""
    client = stage.client()
    checkpoints = stage.checkpoints(client)
    train(client, 0)
    checkpoints.save("step-1", data_consumed=1)
    stage.quirks.set("futures.expire_next", True, times=1, endpoint="optim_step")
    error = refusal(train, client, 1)
    claim(type(error).__name__ == "RetryableException" and "expired" in str(error), f"{error!r}")
    claim(trainers.state(stage) == "JOB_STATE_RUNNING" and trainers.steps(stage, client) == 2, "the step was taken")
    expired = [exchange for exchange in stage.exchanges("retrieve_future") if exchange.status == 410]
    again = stage.client()
    resumed = stage.checkpoints(again).resume()
    claim(resumed and resumed.step == 1, f"resumed {resumed}")
    train(again, 1)
    same = stage.live(again), stage.live(client)
    claim(trainers.steps(stage, again) == 2, f"{trainers.steps(stage, again)} steps")
    equal = all(bool((a == b).all()) for a, b in zip(*(model.model.parameters() for model in same), strict=True))
    claim(equal, "the resumed run should hold what the one without trouble holds")
    wire = Wire(stage.http, "job-1", account=stage.account, base_model=BASE)
    stage.quirks.set("futures.ttl_s", 60.0)
    request = wire.submit("optim_step", 1)
    wire.result(request)
    stage.clock.advance(61)
    late = wire.send("retrieve_future", {"request_id": request}).json()
    claim("expired" in str(late), f"{late}")
    return Report(
        sees=[f"{type(error).__name__}: {error}", f"after 60 s of keeping: {late['message']}"],
        exchanges=expired[:1],
        right=[
            f"goes back to the last checkpoint, step {resumed.step}, and trains the batch again: bit for bit the same"
        ],
    )


BORNE = (
    ("try_again", 3),
    ("paused_capacity", 2),
    ("paused_rate_limit", 2),
    ("408", 3),
    ("500", 12),
    ("503", 12),
    ("429", 2),
    ("400", 3),
    ("empty_400", 6),
    ("402", 3),
    ("complete_metadata", 1),
)


FATAL = (("400", 4), ("404", 1), ("409", 1), ("complete_metadata", 2), ("refuse_metadata", 4))


@scenario("F15", "the grammar of polling for a result: what is borne, how often, and what is fatal")
def answers_in_place_of_a_result(stage: Stage) -> Report:
    """Other answers may come instead of a result; the client bears each of them so many times."""
    client = stage.client()
    borne, fatal = [], []
    for answer, times in BORNE:
        error, slept = _ask(stage, client, answer, times)
        claim(error is None, f"{times} x {answer} should be borne: {error!r}")
        borne.append(f"{times} x {answer} ({slept:.0f} s)")
    for answer, times in FATAL[:3]:
        error, _ = _ask(stage, client, answer, times)
        claim(isinstance(error, ValueError), f"{times} x {answer} should be fatal: {error!r}")
        fatal.append(f"{times} x {answer}: {trainers.first_line(error)[:90]}")
    stage.quirks.set("futures.answer", "refuse_metadata", endpoint="forward")
    old, _ = _ask(stage, client, "", 0)
    claim(isinstance(old, ValueError) and "allow_metadata_only" in str(old), f"an old trainer: {old!r}")
    stage.clear_quirks()
    error, _ = _ask(stage, client, "", 0)
    claim(error is None, f"afterwards the client should work: {error!r}")
    return Report(
        sees=[*fatal, f"an old trainer that does not know the field: {trainers.first_line(old)[:90]}"],
        exchanges=[exchange for exchange in stage.exchanges("retrieve_future") if exchange.status == 408][:1],
        right=[f"asks on: {', '.join(borne)}"],
    )


def _ask(stage: Stage, client: Any, answer: str, times: int) -> tuple[Exception | None, float]:
    """Withhold the result of a forward so many times; the error it ends with, and how long the client slept."""
    if times:
        stage.quirks.set("futures.answer", answer, times=times, endpoint="forward")
    slept = stage.time.slept
    try:
        with trainers.patient(stage):
            client.forward(batch(), "cross_entropy").result()
    except Exception as error:
        return error, stage.time.slept - slept
    return None, stage.time.slept - slept


@scenario("F16", "one blip kills a run of many hours: no retry around the step")
def a_blip_kills_the_run(stage: Stage) -> Report:
    """The service is away for longer than the client tries."""
    client = stage.client()
    checkpoints = stage.checkpoints(client)
    for step in (1, 2):
        train(client, step)
        checkpoints.save(f"step-{step}", data_consumed=step)
    stage.quirks.set("http.fail", 503, for_s=400, endpoint="forward_backward")
    slept = stage.time.slept
    with trainers.patient(stage):
        error = refusal(train, client, 3)
    tried = [exchange for exchange in stage.exchanges("forward_backward") if exchange.status == 503]
    waited = stage.time.slept - slept
    claim("503" in str(error) and 299 <= waited < 400, f"after {waited:.0f} s: {error!r}")
    hung = stage.client("job-2")
    with stage.quirks.set("futures.never_resolve", True, job="job-2"):
        hang = refusal(hung.forward_backward(batch(), "cross_entropy").result, timeout=0.2)
    claim(isinstance(hang, TimeoutError), f"{hang!r}")
    stage.time.sleep(120)
    trainers.bring_up(stage)
    again = stage.client()
    resumed = stage.checkpoints(again).resume()
    claim(resumed and resumed.step == 2, f"resumed {resumed}")
    losses = train(again, 3)
    claim(trainers.steps(stage, again) == 3, f"{trainers.steps(stage, again)} steps")
    return Report(
        sees=[
            f"{len(tried)} tries in {waited:.0f} s, then {type(error).__name__}: {trainers.first_line(error)}",
            f"or a call that hangs: {type(hang).__name__}",
        ],
        exchanges=tried[:1],
        right=[f"waits, reconnects, resumes at step {resumed.step}, trains step 3 (loss {losses[0]:.3f})"],
    )


STYLES = ("status", "error_object", "detail", "text")


@scenario("F17", "four shapes of error bodies, and a reason that was masked before")
def errors_have_four_shapes(stage: Stage) -> Report:
    """Errors have had several forms; only one of them carries a reason for programs."""
    from fireworks.training.sdk.errors import parse_training_api_error

    path = f"/v1/accounts/{stage.account}/rlorTrainerJobs/none"
    bodies, messages = [], []
    for style in STYLES:
        with stage.quirks.set("errors.style", style):
            answer = stage.http.get(path)
        bodies.append(answer.text[:120])
        messages.append(str(parse_training_api_error(answer)))
    claim(len(set(bodies)) == 4 and all("'none' not found" in text for text in messages), f"{messages}")
    exchanges = stage.exchanges("get_job")
    stage.manager.create(stage.job_config("job-1"))
    stage.quirks.set("jobs.quota", 1)
    full = refusal(stage.manager.create, stage.job_config("job-2"))
    claim(getattr(full, "reason", None) == "QUOTA_EXCEEDED", f"{full!r}")
    with stage.quirks.set("errors.style", "detail"):
        masked = refusal(stage.manager.create, stage.job_config("job-2"))
    claim(getattr(masked, "status_code", None) == 403 and masked.reason is None, f"{masked!r}")  # type: ignore[attr-defined]
    client = stage.client("job-1")
    stage.quirks.set("futures.answer", "409", times=1, endpoint="forward")
    busy = refusal(lambda: client.forward(batch(), "cross_entropy").result())
    claim(isinstance(busy, ValueError) and "409" in str(busy), f"{busy!r}")
    stage.manager.delete("job-1")
    made = stage.manager.create(stage.job_config("job-2"))
    claim(trainers.state(stage, made.job_id) == "JOB_STATE_RUNNING", f"{made}")
    return Report(
        sees=[*bodies, f"over the quota, in an old body: {masked}", f"409 on a dedicated trainer: {str(busy)[:120]}"],
        exchanges=exchanges[:2],
        right=[
            f"classifies by ErrorInfo: status {full.status_code}, reason {full.reason}, {full.metadata}; "  # type: ignore[attr-defined]
            "frees a job, creates again"
        ],
    )


@scenario("F22", "the headers of a result come and its body does not: a step hangs though the result is ready")
def a_body_does_not_come(stage: Stage) -> Report:
    """The answer to a poll begins and stalls; without a deadline for bodies a client waits for as long as it lasts."""
    from fireworks.training.sdk._core.lib import api_future_impl

    client = stage.client()
    client.forward_backward(batch(), "cross_entropy").result()
    wire = Wire(stage.http, "job-1", account=stage.account, base_model=BASE)
    request = wire.submit("optim_step", 1)
    wire.result(request)
    path = f"/training/v1/rlorTrainerJobs/{stage.account}/job-1/api/v1/retrieve_future"
    stage.quirks.set("http.slow_body_s", _STALL_S, times=2, endpoint="retrieve_future")
    began = time.perf_counter()
    with stage.http.stream("POST", path, json={"request_id": request}) as answer:
        headers = time.perf_counter() - began
        answer.read()
    body = time.perf_counter() - began
    claim(headers < body / 2 and body > _STALL_S / 2, f"headers after {headers:.2f} s, the body after {body:.2f} s")
    before = len(stage.exchanges("retrieve_future"))
    patience = api_future_impl._RETRIEVE_FUTURE_BODY_TIMEOUT_SECONDS
    api_future_impl._RETRIEVE_FUTURE_BODY_TIMEOUT_SECONDS = 0.05
    try:
        result = client.optim_step(trainers.adam()).result()
    finally:
        api_future_impl._RETRIEVE_FUTURE_BODY_TIMEOUT_SECONDS = patience
    until = time.perf_counter() + _NOTED_S  # the answer that stalled is noted when it is over
    while len(asked := _asked_for(stage, before)) < 2 and time.perf_counter() < until:
        Event().wait(0.01)
    claim(len(asked) == 2 and len(set(asked)) == 1, f"asked for {asked}")
    claim(trainers.steps(stage, client) == 1 and result.metrics, "one step should have been taken")
    stage.quirks.set("http.cut_body", 5, times=1, endpoint="retrieve_future")
    with trainers.patient(stage):
        client.optim_step(trainers.adam()).result()
    return Report(
        sees=[f"headers after {headers:.3f} s, the body {_STALL_S:g} s later, or never: the result is ready all along"],
        exchanges=stage.exchanges("retrieve_future")[:1],
        right=[
            f"a deadline for headers and another for the body ({patience:g} s in the SDK), and the same future again: "
            f"asked {len(asked)} times, one step"
        ],
    )


def _asked_for(stage: Stage, before: int) -> list[str]:
    """The futures that were asked for after the first `before` times."""
    return [exchange.json["request_id"] for exchange in stage.exchanges("retrieve_future")[before:]]


_STALL_S = 1.0
_NOTED_S = 10.0
"""Seconds by which a stalled answer stands in the journal."""


@scenario("F23", "the pieces of one call arrive out of order: a step is taken on half a batch")
def pieces_arrive_out_of_order(stage: Stage) -> Report:
    """A big call is split, and its first piece comes last; the order is that of the numbers, not of the arrival."""
    from fireworks.training.sdk._core.lib.public_interfaces import training_client

    client = stage.client()
    most, training_client.MAX_CHUNK_LEN = training_client.MAX_CHUNK_LEN, 1
    try:
        client.forward([*batch(0), *batch(1), *batch(2)], "cross_entropy").result()
        sent = [exchange.json["seq_id"] for exchange in stage.exchanges("forward")]
        client.forward_backward([*batch(0), *batch(1), *batch(2)], "cross_entropy").result()
    finally:
        training_client.MAX_CHUNK_LEN = most
    claim(sorted(sent) == [1, 2, 3], f"the pieces came as {sent}")
    pieces = sorted(stage.exchanges("forward_backward"), key=lambda exchange: exchange.json["seq_id"])
    bodies = [exchange.json["forward_backward_input"] for exchange in pieces]
    client.optim_step(trainers.adam()).result()
    whole = stage.weights(client)
    digests = {}
    for rule in ("sequence", "arrival"):
        stage.job(rule)
        stage.quirks.set("rpc.order", rule, job=rule)
        wire = Wire(stage.http, rule, account=stage.account, base_model=BASE)
        waiting = [wire.submit("forward_backward", seq, forward_backward_input=bodies[seq - 1]) for seq in (2, 3)]
        waiting.append(wire.submit("optim_step", 4, adam_params={"learning_rate": RATE}))
        waiting.append(wire.submit("forward_backward", 1, forward_backward_input=bodies[0]))
        for request in waiting:
            wire.result(request)
        digests[rule] = _digest(stage, wire)
    claim(digests["sequence"] == whole != digests["arrival"], f"{digests}, whole {whole}")
    return Report(
        sees=[
            f"the SDK sends the pieces of one call as {sent}",
            "a server that goes by arrival takes the step before the first piece has come: other weights, no error",
        ],
        exchanges=pieces,
        right=["a server that holds a call back until all before it are there: the weights of the whole batch"],
    )


def _digest(stage: Stage, wire: Wire) -> str:
    from ftsim.compute.sampler.weights import digest
    from ftsim.testing.trainer_state import live_model

    live = live_model(stage.emulator, wire.model_id)
    return digest({name: value.detach() for name, value in live.trained.items()})
