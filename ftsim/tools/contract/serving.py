"""Checks on a deployment that settle what docs/wire.md only infers (`marks`). They hot-load what the job has saved."""

import base64
import json
import time
from typing import Any

from emulator.http.schemas import COMPLETION, DEPLOYMENT, EMPTY, HOT_LOAD, LEDGER
from ftsim.tools.contract.creating import READY_S, TOKENS, CreatedJob
from ftsim.tools.contract.session import Skip

HOT_LOAD_PATH = "/hot_load/v1/models/hot_load"
ACCELERATOR = "NVIDIA_H200_141GB"
"""The hardware of a deployment without a shape."""
WORDS: tuple[str | bool, ...] = ("all", "new_session", "none", True, False)


def deploy(stage: CreatedJob) -> None:
    """Create a deployment that loads the job's snapshots, and wait until it is READY."""
    if not stage.sampler:
        raise Skip("the job has saved nothing that could be served")
    body = {
        "displayName": stage.name,
        "baseModel": stage.base_model,
        "description": "made by ftsim contract",
        "minReplicaCount": 1,
        "maxReplicaCount": 1,
        "enableHotLoad": True,
        "hotLoadTrainerJob": stage.job,
        "forTraining": True,
        **({"deploymentShape": stage.deployment_shape} if stage.deployment_shape else {"acceleratorType": ACCELERATOR}),
    }
    path = f"/v1/accounts/{stage.session.account}/deployments"
    made = stage.session.ask("POST", path, params={"deploymentId": stage.name}, json=body)
    stage.session.expect(made, DEPLOYMENT)
    if not made.is_success:
        raise Skip("no deployment was made")
    stage.deployed = True
    deadline = time.monotonic() + READY_S
    while (state := (stage.session.get(f"/v1/{stage.deployment}", DEPLOYMENT) or {}).get("state")) != "READY":
        if state in ("FAILED", "DELETED") or time.monotonic() > deadline:
            raise TimeoutError(f"the deployment is not served: {state}")
        time.sleep(stage.poll_s)


def unknown_snapshot(stage: CreatedJob) -> None:
    """A snapshot that does not exist is taken at the signal, and an error in the status."""
    _signal(stage, "ftsim-none")
    replica = _loaded(stage, "ftsim-none", stages=("error",))
    stage.session.must("stage of an unknown snapshot", "error", _stage_of(replica))


def words_of_reset(stage: CreatedJob) -> None:
    """The words of reset_prompt_cache are taken, and its older booleans; so are validation and a hint."""
    for word in WORDS:
        _signal(stage, stage.sampler, reset_prompt_cache=word)
    _signal(stage, stage.sampler, validation={"extra_fields_ignore": ["ftsim_field"]})
    hint = stage.session.ask("POST", f"{HOT_LOAD_PATH}/hint", json={"identity": stage.sampler}, headers=_headers(stage))
    stage.session.must("status of a hint", True, hint.is_success)
    _loaded(stage, stage.sampler, stages=("done",))


def stream_names_snapshot(stage: CreatedJob) -> None:
    """The chunks of a stream name the snapshot, and the deployment's own name serves it."""
    with_stream = {**_asked(stage), "stream": True}
    answer = stage.session.ask("POST", "/inference/v1/completions", json=with_stream)
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: {")]
    models = {str(json.loads(line).get("model", "")).partition("@")[2] for line in lines}
    stage.session.must("snapshots in the chunks' model", [stage.sampler], sorted(models))


def certain_token(stage: CreatedJob) -> None:
    """At temperature 0 the sampled token has the sampling log-probability 0."""
    asked = {**_asked(stage), "temperature": 0.0, "logprobs": True}
    answer = stage.session.ask("POST", "/inference/v1/completions", json=asked)
    body = stage.session.expect(answer, COMPLETION) or {}
    stage.session.must("sampling_logprob of the argmax token", 0.0, _first_token(body).get("sampling_logprob"))


def what_penalties_count(stage: CreatedJob) -> None:
    """A frequency penalty counts the answer alone, a repetition penalty the prompt too."""
    changed = {}
    for penalty in ("frequency_penalty", "presence_penalty", "repetition_penalty"):
        asked = {**_asked(stage), "temperature": 1.0, "logprobs": True, "seed": 1, penalty: 2.0}
        answer = stage.session.ask("POST", "/inference/v1/completions", json=asked)
        if answer.headers.get("x-ftsim-backend") == "light":
            raise Skip("no model computes here, so no penalty acts")
        token = _first_token(stage.session.expect(answer, COMPLETION) or {})
        drawn, own = token.get("sampling_logprob"), token.get("logprob")
        if drawn is None or own is None:
            raise Skip("the answer has no sampling_logprob")
        changed[penalty] = abs(float(drawn) - float(own)) > 1e-6
    expected = {"frequency_penalty": False, "presence_penalty": False, "repetition_penalty": True}
    stage.session.must("penalties that change the first token's distribution", expected, changed)


def routes_of_a_token(stage: CreatedJob) -> None:
    """A mixture of experts tells the experts of every token, in equal lengths; a dense model has none."""
    details = (stage.session.ask("GET", f"/v1/{stage.base_model}").json() or {}).get("baseModelDetails") or {}
    if not details.get("moe"):
        raise Skip("the base model is dense: give a mixture of experts with --base-model")
    asked = {**_asked(stage), "max_tokens": 2, "logprobs": True, "echo": True, "include_routing_matrix": True}
    body = stage.session.expect(stage.session.ask("POST", "/inference/v1/completions", json=asked), COMPLETION) or {}
    rows = ((body.get("choices") or [{}])[0].get("logprobs") or {}).get("content") or []
    lengths = {len(base64.b64decode(row["routing_matrix"])) for row in rows if row.get("routing_matrix")}
    stage.session.must("one length of all routes", 1, len(lengths))
    stage.session.told("bytes of a token's route", str(sorted(lengths)))


def model_in_use(stage: CreatedJob) -> None:
    """A model that a deployment serves cannot be deleted."""
    models = f"accounts/{stage.session.account}/models"
    _asked(stage)
    path, name = f"/v1/accounts/{stage.session.account}/deployments", f"{stage.name}-model"
    body = {"baseModel": f"{models}/{stage.name}", "minReplicaCount": 0, "maxReplicaCount": 1, "description": "checks"}
    made = stage.session.ask("POST", path, params={"deploymentId": name}, json={**body, "acceleratorType": ACCELERATOR})
    if not made.is_success:
        raise Skip(f"the promoted model cannot be deployed: {stage.session.message(made)}")
    try:
        stage.session.refused(stage.session.ask("DELETE", f"/v1/{models}/{stage.name}"), 400, 9)
    finally:
        stage.session.ask("DELETE", f"{path}/{name}", params={"ignoreChecks": "true"})


def model_not_served(stage: CreatedJob) -> None:
    """A model that a deployment does not serve is refused when both are named."""
    other = f"accounts/fireworks/models/ftsim-contract-no-such-thing#{stage.deployment}"
    answer = stage.session.ask("POST", "/inference/v1/completions", json={**_asked(stage), "model": other})
    stage.session.must("status", 400, answer.status_code)


def ledger(stage: CreatedJob) -> None:
    """The ledger tells the newest load first, as an object in a text; emptied, nothing is in it."""
    if not stage.deployed:
        raise Skip("there is no deployment")
    path = f"/v1/{stage.deployment}/ledger"
    rows = (stage.session.get(path, LEDGER) or {}).get("ledger") or []
    stage.session.must("rows are in the ledger", True, bool(rows))
    stage.session.must(
        "newest first", sorted((row["timestamp"] for row in rows), reverse=True), [r["timestamp"] for r in rows]
    )
    stage.session.told("the value of a row", str(rows[0]["value"]) if rows else "")
    values = [_parsed(row["value"]) for row in rows]
    stage.session.must("values that are objects", len(rows), sum(isinstance(value, dict) for value in values))
    stage.session.must("status of emptying", True, stage.session.ask("DELETE", path).is_success)
    stage.session.must("rows after emptying", [], (stage.session.get(path, LEDGER) or {}).get("ledger") or [])


def scaled_to_zero(stage: CreatedJob) -> None:
    """Without replicas a deployment stays READY, and its status names none."""
    if not stage.deployed:
        raise Skip("there is no deployment")
    query = {"updateMask": "min_replica_count,max_replica_count"}
    body = {"minReplicaCount": 0, "maxReplicaCount": 1}
    stage.session.ask("PATCH", f"/v1/{stage.deployment}", params=query, json=body)
    stage.session.expect(stage.session.ask("PATCH", f"/v1/{stage.deployment}:scale", json={"replicaCount": 0}), EMPTY)
    found = stage.session.get(f"/v1/{stage.deployment}", DEPLOYMENT) or {}
    stage.session.must("body.state", "READY", found.get("state"))
    status = stage.session.ask("GET", HOT_LOAD_PATH, headers=_headers(stage)).json()
    stage.session.must("replicas of the status", [], status.get("replicas"))


def _asked(stage: CreatedJob) -> dict[str, Any]:
    if not stage.deployed:
        raise Skip("there is no deployment")
    return {"model": stage.deployment, "prompt": list(TOKENS), "max_tokens": 1}


def _first_token(body: dict[str, Any]) -> dict[str, Any]:
    content = ((body.get("choices") or [{}])[0].get("logprobs") or {}).get("content") or [{}]
    return dict(content[0])


def _headers(stage: CreatedJob) -> dict[str, str]:
    return {"fireworks-model": stage.base_model, "fireworks-deployment": stage.deployment}


def _signal(stage: CreatedJob, identity: str, **fields: Any) -> None:
    if not stage.deployed:
        raise Skip("there is no deployment")
    answer = stage.session.ask("POST", HOT_LOAD_PATH, json={"identity": identity, **fields}, headers=_headers(stage))
    if not answer.is_success:
        stage.session.differs(f"status of a signal with {fields}", 200, f"{answer.status_code}: {answer.text[:200]}")
    else:
        stage.session.expect(answer, HOT_LOAD)


def _loaded(stage: CreatedJob, identity: str, stages: tuple[str, ...]) -> dict[str, Any]:
    """Wait until the first replica is done with a snapshot, or refuses it; the replica as the status shows it."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        answer = stage.session.ask("GET", HOT_LOAD_PATH, headers=_headers(stage))
        replicas = (stage.session.expect(answer, EMPTY) or {}).get("replicas") or [{}]
        state = replicas[0].get("loading_state") or {}
        if state.get("target_snapshot_identity") == identity and state.get("stage") in stages:
            return dict(replicas[0])
        time.sleep(stage.poll_s)
    raise TimeoutError(f"{identity} is not {' or '.join(stages)} within {READY_S:g} s")


def _stage_of(replica: dict[str, Any]) -> Any:
    return (replica.get("loading_state") or {}).get("stage")


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
