"""Failures of the promotion call itself: model ids, lost answers, long operations."""

import json
import logging

from ftsim.scenarios import scenario
from ftsim.scenarios.support import promotions
from ftsim.scenarios.support.report import SDK_1_2_28, Report, claim, refusal, still_upstream
from ftsim.scenarios.support.stage import BASE, Stage, train


@scenario(
    "D4",
    "a model id with a hyphen at either end passes the SDK's check and is refused by the server",
    upstream=SDK_1_2_28,
)
def a_model_id_with_a_hyphen_at_its_end(stage: Stage) -> Report:
    """The client's own check of a model id is looser than a DNS label."""
    from fireworks.training.sdk.fireworks_client import validate_output_model_id

    from ftsim.training.checks import check_output_model_id

    client = stage.client()
    train(client, 0)
    row = promotions.sampler(client, "step-1")
    odd = ["-lead", "trail-"]
    still_upstream(
        SDK_1_2_28, not any(map(validate_output_model_id, odd)), "the SDK's check lets -lead and trail- pass"
    )
    stage.quirks.set("models.id_rule", "dns_label")
    refused = [refusal(promotions.promote, stage, row, model) for model in odd]
    claim(all("(HTTP 400)" in str(error) for error in refused), f"{refused}")
    long = refusal(promotions.promote, stage, row, "m" * 64)
    claim(isinstance(long, ValueError), f"64 characters should be refused before any request: {long!r}")
    asked = stage.exchanges("promote")
    early = [refusal(check_output_model_id, model) for model in (*odd, "m" * 64, "Upper")]
    claim(len(stage.exchanges("promote")) == len(asked) == 2, "our check should ask nobody")
    return Report(
        sees=[promotions.cause(error) for error in refused],
        exchanges=asked,
        right=[f"keeps to the stricter rule, before training starts: {error}" for error in early[:2]],
    )


@scenario("D5", "the model id is taken: 409, with advice about checkpoint names", upstream=SDK_1_2_28)
def the_model_id_is_taken(stage: Stage) -> Report:
    """A model id can be taken only once, and the hint of the error speaks of checkpoint names."""
    client = stage.client()
    train(client, 0)
    first = promotions.sampler(client, "step-1")
    train(client, 1)
    second = promotions.sampler(client, "step-2")
    made = promotions.promote(stage, first, "mine")
    error = refusal(promotions.promote, stage, first, "mine")
    claim("(HTTP 409)" in str(error), str(error))
    hint = next(line.strip() for line in str(error).splitlines() if "Solution:" in line)
    wrong = "checkpoint name" in hint and "model" not in hint.replace("base_model", "")
    still_upstream(SDK_1_2_28, wrong, f"the advice for a taken model id: {hint}")
    same = promotions.promote_rightly(stage, promotions.row(stage, first), "mine")
    claim(same["name"] == made["name"], f"the same source should be success, got {same}")
    other = refusal(promotions.promote_rightly, stage, promotions.row(stage, second), "mine")
    with stage.quirks.set("promote.on_existing", "same_source_ok"):
        again = promotions.promote(stage, first, "mine")
    claim(again["name"] == made["name"], f"a server that knows the source gave {again}")
    return Report(
        sees=[promotions.first_line(error), promotions.cause(error), hint[:200]],
        exchanges=stage.exchanges("promote")[1:2],
        right=[
            f"reads the model and finds its own source: success, {same['name']}",
            f"another source: {promotions.first_line(other)}",
        ],
    )


@scenario("D6", "promoted, then told that it failed: 504, and the automatic retry meets 409", upstream=SDK_1_2_28)
def promoted_and_told_that_it_failed(stage: Stage) -> Report:
    """A gateway gives up on a promotion that goes through; the client's retry then meets its own model."""
    client = stage.client()
    train(client, 0)
    name = promotions.sampler(client, "step-1")
    stage.quirks.set("http.apply_then_fail", 504, times=1, endpoint="promote")
    error = refusal(promotions.promote, stage, name, "mine")
    answers = [exchange.status for exchange in stage.exchanges("promote")]
    seen = answers == [504, 409] and "(HTTP 409)" in str(error)
    still_upstream(SDK_1_2_28, seen, f"a retry turns success into failure: {answers}, {error}")
    claim(promotions.models(stage) == ["mine"], f"the models are {promotions.models(stage)}")
    stage.quirks.set("http.apply_then_fail", 504, times=1, endpoint="promote")
    model = promotions.promote_rightly(stage, promotions.row(stage, name), "mine-too")
    claim(model["state"] == "READY", f"our client got {model}")
    return Report(
        sees=[promotions.first_line(error), "the model exists, READY"],
        exchanges=stage.exchanges("promote")[:2],
        right=[f"after any failure looks whether this very row became the model: {model['name']} is a success"],
    )


@scenario("D7", "a large promotion outlives the gateway: 502, and the model is READY minutes later")
def the_promotion_outlives_the_gateway(stage: Stage) -> Report:
    """A large copy takes longer than any gateway waits."""
    client = stage.client()
    train(client, 0)
    name = promotions.sampler(client, "step-1")
    stage.quirks.set("promote.duration_s", 320.0)
    stage.quirks.set("http.apply_then_fail", 502, endpoint="promote")
    error = refusal(promotions.promote, stage, name, "mine")
    claim("(HTTP 502)" in str(error), str(error))
    asked = stage.exchanges("promote")
    get = f"/v1/accounts/{stage.account}/models/mine"
    before = stage.http.get(get).json()["state"]
    stage.clock.advance(320)
    after = stage.http.get(get).json()["state"]
    claim((before, after) == ("UPLOADING", "READY"), f"the model was {before}, then {after}")
    slept = stage.time.slept
    model = promotions.promote_rightly(stage, promotions.row(stage, name), "mine-too")
    claim(model["state"] == "READY", f"our client returned {model}")
    return Report(
        sees=[
            f"{len(asked)} requests over {slept:.0f} s, then: {promotions.first_line(error)}",
            f"the model is {before}, and {after} when 320 s are over",
        ],
        exchanges=[asked[0], stage.exchanges("get_model")[0]],
        right=[f"polls the model until it is READY, {stage.time.slept - slept:.0f} s in all: {model['name']}"],
    )


@scenario("D8", "the server does not know the field async_promotion")
def asynchronous_promotion_is_unknown(stage: Stage) -> Report:
    """An older control plane does not know async_promotion and says so."""
    client = stage.client()
    train(client, 0)
    name = promotions.sampler(client, "step-1")
    stage.quirks.set("promote.async", "unsupported")
    body = {
        "output_model": f"accounts/{stage.account}/models/naive",
        "trainer_job_id": stage.job_name("job-1"),
        "base_model": BASE,
        "async_promotion": True,
    }
    naive = stage.http.post(f"/v1/accounts/{stage.account}/checkpoints/{name}:promote", json=body)
    claim(naive.status_code == 400 and "async_promotion" in naive.text, naive.text)
    model = promotions.promote(stage, name, "mine")
    sent = ["async_promotion" in json.loads(exchange.request) for exchange in stage.exchanges("promote")]
    claim(sent == [True, True, False] and model["state"] == "READY", f"asked {sent}, got {model}")
    claim(promotions.models(stage) == ["mine"], f"the models are {promotions.models(stage)}")
    stage.quirks.set("promote.async", "inline")
    other = refusal(promotions.promote, stage, "nowhere", "other")
    claim("async_promotion" not in str(other), str(other))
    return Report(
        sees=[f"with the SDK nothing; a client that always sends the field: {naive.json()['message']}"],
        exchanges=stage.exchanges("promote")[1:3],
        right=[f"asks again without the field, once, when the refusal names it: {model['name']}"],
    )


@scenario("D9", "an operation ends without a response, with an error, or stops answering")
def an_operation_ends_without_a_model(stage: Stage) -> Report:
    """A promotion as a long-running operation, and the ends such an operation can come to."""
    client = stage.client()
    train(client, 0)
    name = promotions.sampler(client, "step-1")
    quirks = stage.quirks
    quirks.set("promote.async", "operation")
    seen = []
    for ends, says in (("nothing", "without a model response"), ("error", "failed")):
        quirks.set("operations.ends_with", ends, times=1)
        error = refusal(promotions.promote, stage, name, f"ends-with-{ends}")
        claim(isinstance(error, RuntimeError) and says in str(error), f"{ends}: {error}")
        seen.append(f"done with {ends}: {promotions.cause(error)}")
    quirks.set("operations.pending_reads", 1, times=1)
    with quirks.set("http.fail", 404, times=1, endpoint="get_operation"):
        fatal = refusal(promotions.promote, stage, name, "poll-404")
    claim("Failed to poll operation" in str(fatal), str(fatal))
    for style in ("statusMessage", "status_message", "value"):
        quirks.set("operations.metadata_style", style)
        quirks.set("operations.pending_reads", 2, times=1)
        claim(_logged(stage, name, f"told-by-{style.lower().replace('_', '-')}"), f"{style}: no status was logged")
    quirks.set("operations.pending_reads", 1, times=1)
    quirks.set("http.fail", 503, times=2, endpoint="get_operation")
    patient = promotions.promote(stage, name, "poll-503")
    claim(patient["state"] == "READY", f"a poll that answers 503 should be repeated: {patient}")
    quirks.set("operations.ends_with", "nothing", times=1)
    right = promotions.promote_rightly(stage, promotions.row(stage, name), "mine")
    claim(right["state"] == "READY", f"our client got {right}")
    return Report(
        sees=[*seen, f"poll answers 404: {promotions.first_line(fatal)}", "poll answers 503: it goes on"],
        exchanges=stage.exchanges("promote", "get_operation")[:2],
        right=[f"looks at the model, whatever the operation said: {right['name']} is {right['state']}"],
    )


def _logged(stage: Stage, name: str, model: str) -> bool:
    """Promote; True when the client logged the status of the operation."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("fireworks.training.sdk.fireworks_client")
    level, propagates = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        promotions.promote(stage, name, model)
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = propagates
    return any("copying" in line for line in lines)
