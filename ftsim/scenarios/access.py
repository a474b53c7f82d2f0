"""Failures of sessions, keys and quotas: who may use a trainer, and how many at a time."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ftsim.scenarios import scenario
from ftsim.scenarios.support import deployments, trainers
from ftsim.scenarios.support.report import Report, claim, refusal
from ftsim.scenarios.support.stage import BASE, Stage, train
from ftsim.testing.clients import batch


@scenario("F10", "a second create_session evicts the first client's model, and its next save hangs")
def a_second_session_evicts_the_model(stage: Stage) -> Report:
    """A second session on a trainer with one place throws the first one's model out."""
    stage.quirks.set("sessions.create", "destructive")
    first = stage.client(rank=4)
    train(first, 0)
    stage.client(rank=4)  # somebody else, or a reference model, opens a session of its own
    told = refusal(first.save_weights_for_sampler_ext, "step-1")
    claim("No session found for model_id" in str(told), str(told))
    pool = ThreadPoolExecutor(1)
    with stage.quirks.set("futures.never_resolve", True, endpoint="save_weights_for_sampler"):
        pending = pool.submit(first.save_weights_for_sampler_ext, "step-1-again")
        hang = refusal(pending.result, timeout=0.4)
    claim(isinstance(hang, TimeoutError), f"{hang!r}")
    pool.shutdown(wait=False)
    service = stage.service()
    policy = service.create_training_client(base_model=BASE, lora_rank=4)
    reference = service.create_base_training_client(BASE)
    reference.forward(batch(), "cross_entropy").result()
    train(policy, 0)
    saved = policy.save_weights_for_sampler_ext("step-1").snapshot_name
    claim([row.id for row in stage.rows("job-1")] == [saved], f"{stage.rows('job-1')}")
    return Report(
        sees=[
            f"the reason, in the server's logs: {trainers.first_line(told)}",
            "the client's save has no result, for ever",
        ],
        exchanges=stage.exchanges("create_session", "save_weights_for_sampler")[:3],
        right=[
            f"one service client per trainer, policy and reference in one session: {saved} is saved",
            f"and a timeout around every save: {type(hang).__name__}",
        ],
    )


@scenario("F11", "maximum of 2 concurrent sessions reached")
def too_many_sessions(stage: Stage) -> Report:
    """A trainer holds a few adapters, and closed clients go on to hold theirs."""
    stage.quirks.set("sessions.max_gpu", 2)
    first, second = stage.client(rank=4), stage.client(rank=4)
    error = refusal(stage.client, rank=4)
    claim("maximum of 2 concurrent sessions reached (gpu=2, cpu=0)" in str(error), str(error))
    first.holder.close()
    still = refusal(stage.client, rank=4)
    claim("maximum of 2" in str(still), f"closing without unloading freed a place: {still}")
    second.unload_model().result()
    third = stage.client(rank=4)
    train(third, 0)
    claim(trainers.steps(stage, third) == 1, "the third client should train")
    return Report(
        sees=[trainers.first_line(error), "closing a client frees nothing"],
        exchanges=stage.exchanges("create_model")[2:3],
        right=["unloads its model when it is done (unload_model), and the next client fits in"],
    )


@scenario("F18", "a key for inference only, of two accounts, without the shape, over the quota")
def what_a_key_may_do(stage: Stage) -> Report:
    """A key may be for inference only, and its account may lack a shape or the room for one more job."""
    seen = []
    with stage.quirks.set("auth.inference_only", True):
        denied = refusal(lambda: _manager(stage).account_id)
        works = deployments.complete(stage, BASE)
    claim("401" in str(denied) and works.status_code == 200, f"{denied}, completions {works.status_code}")
    seen.append(f"inference only: {trainers.first_line(denied)}; completions: {works.status_code}")
    for listed in ("two", "none"):
        with stage.quirks.set("accounts.listed", listed):
            error = refusal(lambda: _manager(stage).account_id)
        claim(isinstance(error, ValueError), f"{listed}: {error!r}")
        seen.append(f"{listed}: {trainers.first_line(error)}")
    shaped = stage.job_config(
        "job-1",
        training_shape_ref="accounts/fireworks/trainingShapes/ts-qwen3-4b-policy/versions/1",
        max_context_length=None,
        accelerator_type=None,
        accelerator_count=None,
        base_model="accounts/fireworks/models/qwen3-4b",
    )
    with stage.quirks.set("shapes.enabled", False):
        disabled = refusal(stage.manager.create, shaped)
    claim(getattr(disabled, "status_code", None) == 412, f"{disabled!r}")
    seen.append(f"412: {trainers.first_line(disabled)}")
    length = {"baseModel": "accounts/fireworks/models/qwen3-4b", "maxContextLength": 4001}
    odd = stage.http.post(
        f"/v1/accounts/{stage.account}/rlorTrainerJobs",
        params={"trainingShape": "accounts/fireworks/trainingShapes/qwen3-4b-minimum"},
        json={"trainingConfig": length},
    )
    claim(odd.status_code == 400 and "must be divisible by 16" in odd.text, odd.text)
    seen.append(f"400: {odd.json()['message']}")
    stage.manager.create(stage.job_config("job-2"))
    stage.quirks.set("jobs.quota", 1)
    stage.quirks.set("jobs.quota_answer", "429")
    slept = stage.time.slept
    with trainers.patient(stage):
        full = refusal(stage.manager.create, stage.job_config("job-3"))
    claim(getattr(full, "status_code", None) == 429, f"{full!r}")
    seen.append(f"429 after {stage.time.slept - slept:.0f} s of retries: {trainers.first_line(full)}")
    stage.manager.delete("job-2")
    made = _manager(stage).create(stage.job_config("job-3"))
    claim(trainers.state(stage, made.job_id) == "JOB_STATE_RUNNING", f"{made}")
    return Report(
        sees=seen,
        exchanges=[stage.exchanges("list_accounts")[0], *stage.exchanges("create_job")[:1]],
        right=[f"tries the key before anything costs money, frees what it does not need: {made.job_id} runs"],
    )


def _manager(stage: Stage) -> Any:
    """A client that has not looked up its account yet."""
    from fireworks.training.sdk import TrainerJobManager

    return stage.closed_at_the_end(TrainerJobManager(api_key=stage.key, base_url=stage.url))


_PLACES = 2


@scenario("F19", "leaked serverless sessions eat the quota")
def failed_creates_fill_the_quota(stage: Stage) -> Report:
    """Creates that fail leave sessions behind, until the quota is full of them and says so instead of what is wrong."""
    stage.quirks.set("sessions.quota", _PLACES)
    stage.quirks.set("sessions.leak_on_failed_create", True)
    reasons = [refusal(_full_parameter, stage.serverless()) for _ in range(_PLACES)]
    claim(all("train LoRA of rank" in str(reason) for reason in reasons), f"{reasons}")
    hidden = refusal(_full_parameter, stage.serverless())
    claim("at a time: delete one" in str(hidden) and "LoRA" not in str(hidden), str(hidden))
    blocked = refusal(stage.serverless().create_lora_training_client, BASE, rank=4)
    claim("at a time: delete one" in str(blocked), str(blocked))
    leaked = [session for session in _sessions(stage) if session["state"] == "TRAINING_SESSION_STATE_UNSPECIFIED"]
    claim(len(leaked) == _PLACES, f"{leaked}")
    for session in leaked:
        stage.manager.delete_training_session(session["name"])
    service = stage.serverless()
    careful = refusal(_or_delete, service)
    claim("train LoRA of rank" in str(careful), str(careful))
    states = [session["state"] for session in _sessions(stage)]
    claim("TRAINING_SESSION_STATE_UNSPECIFIED" not in states, f"{states}")
    client = stage.serverless().create_lora_training_client(BASE, rank=4)
    train(client, 0)
    claim(trainers.steps(stage, client) == 1, "the pool should train again")
    return Report(
        sees=[
            f"what is wrong: {trainers.first_line(reasons[0])}",
            f"the same mistake once the quota is full of what failed: {trainers.first_line(hidden)}",
            f"the rows that fill it: {', '.join(session['state'] for session in leaked)}",
        ],
        exchanges=stage.exchanges("create_model")[:1] + stage.exchanges("list_sessions")[:1],
        right=["deletes the session of a create that failed, and those that are left: the pool trains again"],
    )


def _full_parameter(service: Any) -> None:
    service.create_training_client(base_model=BASE, lora_rank=0)


def _or_delete(service: Any) -> None:
    try:
        _full_parameter(service)
    except Exception:
        service.delete_training_session()
        raise


def _sessions(stage: Stage) -> list[dict[str, Any]]:
    path = f"/v1/accounts/{stage.account}/trainingSessions"
    return list(stage.http.get(path).json()["trainingSessions"])
