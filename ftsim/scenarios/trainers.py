"""Failures of trainer jobs: creating, waiting, reconnecting, stopping, cleaning up."""

from typing import Any

from ftsim.scenarios import scenario
from ftsim.scenarios.support import trainers
from ftsim.scenarios.support.report import SDK_1_2_28, Report, claim, refusal, still_upstream
from ftsim.scenarios.support.stage import BASE, Stage, train
from ftsim.testing.clients import batch


@scenario("F1", "a preempted job is resumed, read once more as FAILED, and given up", upstream=SDK_1_2_28)
def a_resumed_job_reads_as_failed(stage: Stage) -> Report:
    """A resumed job shows its former state for a moment, and one of those states is taken for final."""
    stage.quirks.set("jobs.resume_flip_after_reads", 1)
    stage.job()
    trainers.preempt(stage)
    error = refusal(trainers.reconnect, stage)
    exchanges = stage.exchanges("get_job", "resume_job")
    seen = isinstance(error, RuntimeError) and len(stage.exchanges("resume_job")) == 1
    still_upstream(SDK_1_2_28, seen, f"reconnect_and_wait resumed and then raised {error!r}")
    after = stage.manager.get("job-1")["state"]
    claim(after == "JOB_STATE_RUNNING", f"the job is {after}")
    stage.job("job-2")
    stage.http.post(f"/v1/accounts/{stage.account}/rlorTrainerJobs/job-2:cancel", json={})
    trainers.reconnect(stage, "job-2")  # the same delay from CANCELLED is borne
    stage.job("job-3")
    trainers.preempt(stage, "job-3")
    endpoint = trainers.bring_up(stage, "job-3")
    claim(trainers.state(stage, "job-3") == "JOB_STATE_RUNNING", f"{endpoint} of a job that does not run")
    return Report(
        sees=[
            trainers.first_line(error),
            f"a moment later the job is {after}",
            "from CANCELLED the same delay is borne",
        ],
        exchanges=exchanges,
        right=[f"gives every state a grace after a resume: {endpoint.job_id} runs"],
    )


@scenario("F2", "a dead trainer still shown as RUNNING is waited for, and never resumed", upstream=SDK_1_2_28)
def a_dead_trainer_reads_as_running(stage: Stage) -> Report:
    """The row of a job outlives its pod for a while."""
    stage.quirks.set("jobs.stale_running_reads", 2)
    stage.job()
    trainers.preempt(stage)
    error = refusal(trainers.reconnect, stage)
    exchanges = stage.exchanges()
    seen = isinstance(error, RuntimeError) and not stage.exchanges("resume_job")
    still_upstream(SDK_1_2_28, seen, f"reconnect_and_wait raised {error!r} without resuming")
    claim(trainers.state(stage) == "JOB_STATE_FAILED", f"the job is {trainers.state(stage)}")
    stage.job("job-2")
    trainers.preempt(stage, "job-2")
    endpoint = trainers.bring_up(stage, "job-2")
    claim(trainers.state(stage, "job-2") == "JOB_STATE_RUNNING", f"{endpoint} of a job that does not run")
    states = [exchange.answer["state"] for exchange in exchanges if exchange.endpoint == "get_job"]
    return Report(
        sees=[f"GET job: {', '.join(states)}; healthz: 503", trainers.first_line(error)],
        exchanges=[exchange for exchange in exchanges if exchange.endpoint in ("get_job", "healthz")],
        right=[f"believes a state only when it lasts, and resumes what failed while it waited: {endpoint.job_id} runs"],
    )


@scenario("F3", "creating a job under the id of a deleted one: archived and cannot be recreated")
def the_id_of_a_deleted_job(stage: Stage) -> Report:
    """The id of a deleted job cannot be used again."""
    stage.manager.create(stage.job_config("job-1"))
    stage.manager.delete("job-1")
    error = refusal(stage.manager.create, stage.job_config("job-1"))
    answers = [exchange.status for exchange in stage.exchanges("create_job")]
    claim(answers == [200, 409] and "archived and cannot be recreated" in str(error), f"{answers}: {error}")
    exchanges = stage.exchanges("create_job", "get_job")[-2:]
    ours = refusal(trainers.bring_up, stage)
    claim("was deleted" in str(ours), str(ours))
    made = stage.manager.create(stage.job_config("job-2"))
    claim(trainers.state(stage, made.job_id) == "JOB_STATE_RUNNING", f"{made}")
    return Report(
        sees=[trainers.first_line(error)],
        exchanges=exchanges,
        right=[f"our recipes: {ours}", f"a new id: {made.job_id} runs"],
    )


@scenario("F4", "reconnecting to a deleted job waits two minutes and then advises to cancel it", upstream=SDK_1_2_28)
def reconnecting_to_a_deleted_job(stage: Stage) -> Report:
    """Reconnecting to a tombstone waits for a state that never comes."""
    stage.job()
    stage.manager.delete("job-1")
    slept = stage.time.slept
    error = refusal(trainers.reconnect, stage)
    waited = stage.time.slept - slept
    seen = waited >= 120 and "stuck in JOB_STATE_DELETED" in str(error) and "cancel it" in str(error)
    still_upstream(SDK_1_2_28, seen, f"after {waited:.0f} s: {error}")
    reads = stage.exchanges("get_job")
    cancelled = stage.http.post(f"/v1/accounts/{stage.account}/rlorTrainerJobs/job-1:cancel", json={})
    claim(cancelled.status_code == 400, f"the advice works: {cancelled.text}")
    slept = stage.time.slept_here
    ours = refusal(trainers.bring_up, stage)
    claim("was deleted" in str(ours) and stage.time.slept_here == slept, f"{ours}")
    return Report(
        sees=[
            f"after {waited:.0f} s and {len(reads)} reads: {trainers.first_line(error)}",
            f"the advice to cancel it: {cancelled.json()['message']}",
        ],
        exchanges=reads[:1],
        right=[f"says at once: {ours}"],
    )


@scenario(
    "F5",
    "create hands back a job of another rank, and the error comes from the trainer, later",
    upstream=SDK_1_2_28,
)
def a_job_of_another_rank_is_handed_back(stage: Stage) -> Report:
    """409 on create is answered with the job of that id, whatever it is for."""
    stage.manager.create(stage.job_config("job-1", rank=4))
    handed = stage.manager.create(stage.job_config("job-1", rank=8))
    rank = stage.manager.get(handed.job_id)["trainingConfig"]["loraRank"]
    still_upstream(SDK_1_2_28, rank == 4, f"asked for rank 8, got {handed} of rank {rank}")
    exchanges = stage.exchanges("create_job")
    late = refusal(stage.client, handed.job_id, 8)
    claim("LoRA rank" in str(late), str(late))
    ours = refusal(trainers.bring_up, stage, "job-1", 8)
    claim("loraRank" in str(ours), str(ours))
    return Report(
        sees=[f"create with rank 8 succeeds: {handed.job_id}", f"create_training_client: {trainers.first_line(late)}"],
        exchanges=exchanges,
        right=[f"compares trainingConfig with what it wants before it goes on: {ours}"],
    )


@scenario("F6", "a lost reply to a create leaves two paid trainers")
def the_reply_to_a_create_is_lost(stage: Stage) -> Report:
    """The reply to a create is lost: who made the id decides how many trainers there are."""
    path, body = f"/v1/accounts/{stage.account}/rlorTrainerJobs", {"trainingConfig": {"baseModel": BASE}}
    with stage.quirks.set("http.lose_reply", "after", times=1, endpoint="create_job"):
        lost = refusal(stage.http.post, path, json=body)
    again = stage.http.post(path, json=body)
    jobs = [job.id for job in stage.emulator.world.jobs]
    claim(again.status_code == 200 and len(jobs) == 2, f"an old client's second try made {jobs}")
    exchanges = stage.exchanges("create_job")
    wanted = stage.job_config("job-1")
    seen = []
    for fault, value in (("http.lose_reply", "after"), ("http.reset", "after")):
        stage.quirks.set(fault, value, times=1, endpoint="create_job")
        seen.append(trainers.first_line(refusal(stage.manager.create, wanted)))
    stage.quirks.set("http.apply_then_fail", 504, times=1, endpoint="create_job")
    with trainers.patient(stage):
        made = stage.manager.create(wanted)
    claim(made.job_id == "job-1" and len(stage.emulator.world.jobs) == 3, f"{made}, {len(stage.emulator.world.jobs)}")
    claim(trainers.bring_up(stage).job_id == "job-1", "our recipe should find the same job")
    return Report(
        sees=[f"{lost}; asked again, a client that leaves the id to the server has {len(jobs)} jobs: {jobs}"],
        exchanges=exchanges,
        right=[
            f"sends its own rlorTrainerJobId: after {', '.join(seen)} and a 504 it still has one job, {made.job_id}"
        ],
    )


HOUR_S = 3600.0


@scenario("F7", "a job waits many hours for capacity; states unheard of use up the time to get ready")
def a_job_waits_for_capacity(stage: Stage) -> Report:
    """Waiting for a machine and waiting for a trainer to start are two things."""
    stage.quirks.set("jobs.pending_s", 20 * HOUR_S)
    stage.quirks.set("jobs.create_s", 600.0)
    naive = stage.http.post(
        f"/v1/accounts/{stage.account}/rlorTrainerJobs",
        params={"rlorTrainerJobId": "job-0"},
        json={"trainingConfig": {"baseModel": stage.job_config("job-0").base_model}},
    )
    stage.clock.advance(900)
    waiting = stage.manager.get("job-0")["state"]
    claim(naive.status_code == 200 and waiting == "JOB_STATE_PENDING", f"{waiting}")
    slept = stage.time.slept
    with trainers.patient(stage):
        endpoint = stage.manager.create_and_wait(stage.job_config("job-1"), poll_interval_s=800, timeout_s=900)
    waited = stage.time.slept - slept
    claim(waited >= 20 * HOUR_S and endpoint.job_id == "job-1", f"ready after {waited:.0f} s")
    with trainers.patient(stage):
        short = refusal(stage.manager.create_and_wait, stage.job_config("job-2"), pending_timeout_s=60)
    claim("remained pending" in str(short), str(short))
    stage.clear_quirks()
    stage.job("job-3")
    stage.quirks.set("jobs.state_script", ["JOB_STATE_UNHEARD_OF"] * 5, job="job-3")
    with trainers.patient(stage):
        unknown = refusal(stage.manager.wait_for_existing, "job-3", poll_interval_s=300, timeout_s=900)
    claim(isinstance(unknown, TimeoutError) and "did not become ready" in str(unknown), f"{unknown!r}")
    with trainers.patient(stage):
        ready = stage.manager.wait_for_existing("job-3", poll_interval_s=300, timeout_s=900)
    return Report(
        sees=[
            f"after 15 minutes the job is {waiting}: a client with one budget gives up and starts another",
            f"five reads of an unknown state: {trainers.first_line(unknown)}",
        ],
        exchanges=stage.exchanges("get_job")[:1],
        right=[
            f"the SDK counts readiness from placement only: ready after {waited / HOUR_S:.1f} h",
            f"an unknown state is waited through with a larger timeout: {ready.job_id} was well all the time",
        ],
    )


@scenario("F8", "the job is RUNNING and the trainer is not alive: healthz fails, or nothing is ever done")
def running_and_not_alive(stage: Stage) -> Report:
    """RUNNING is what the control plane thinks; only a step shows that a trainer works."""
    stage.job()
    stage.quirks.set("jobs.healthz", 503, job="job-1")
    slept = stage.time.slept
    with trainers.patient(stage):
        error = refusal(stage.manager.wait_for_existing, "job-1", poll_interval_s=60, timeout_s=900)
    waited = stage.time.slept - slept
    claim(isinstance(error, TimeoutError) and waited >= 900, f"after {waited:.0f} s: {error!r}")
    state = stage.manager.get("job-1")["state"]
    stage.clear_quirks()
    stuck = stage.client("job-2")
    with stage.quirks.set("futures.never_resolve", True, job="job-2", endpoint="forward_backward"):
        pending = stuck.forward_backward(batch(), "cross_entropy")
        hang = refusal(pending.result, timeout=0.3)
    healthy = stage.http.get(f"/training/v1/rlorTrainerJobs/{stage.account}/job-2/api/v1/healthz").status_code
    claim(isinstance(hang, TimeoutError) and healthy == 200, f"{hang!r}, healthz {healthy}")
    again = stage.client("job-2")
    losses = train(again, 0)
    claim(trainers.steps(stage, again) == 1, "a new client should train")
    return Report(
        sees=[
            f"{state}, healthz 503, after {waited:.0f} s: {trainers.first_line(error)}",
            f"{trainers.state(stage, 'job-2')}, healthz {healthy}, and a forward_backward that never ends",
        ],
        exchanges=stage.exchanges("get_job")[-1:],
        right=[f"gives the first step a timeout ({type(hang).__name__}) and connects again: loss {losses[0]:.3f}"],
    )


@scenario("F9", "a long rollout looks idle: the trainer is stopped for inactivity")
def a_long_rollout_looks_idle(stage: Stage) -> Report:
    """A trainer that is asked nothing for an hour is taken back."""
    client = stage.client(inactivity_s=HOUR_S)
    checkpoints = stage.checkpoints(client)
    train(client, 0)
    checkpoints.save("step-1", data_consumed=1)
    for _ in range(4):
        stage.clock.advance(0.75 * HOUR_S)
        client.get_info()  # any call will do
    kept = stage.manager.get("job-1")["state"]
    stage.clock.advance(1.1 * HOUR_S)
    stopped = stage.manager.get("job-1")
    claim((kept, stopped["state"]) == ("JOB_STATE_RUNNING", "JOB_STATE_PAUSED"), f"{kept}, {stopped['state']}")
    with trainers.patient(stage):
        error = refusal(train, client, 1)
    long = refusal(stage.manager.create, stage.job_config("job-2", inactivity_timeout="14400s"))
    claim(isinstance(long, ValueError) and "3 hours" in str(long), f"{long!r}")
    trainers.bring_up(stage)
    resumed = stage.checkpoints(stage.client()).resume()
    claim(resumed and resumed.step == 1 and resumed.data_consumed == 1, f"resumed {resumed}")
    return Report(
        sees=[
            f"{stopped['state']}: {stopped['statusMessage']}",
            f"the next step: {trainers.first_line(error)}",
            f"longer than three hours is refused: {trainers.first_line(long)}",
        ],
        exchanges=stage.exchanges("get_job")[1:2],
        right=[
            "a cheap call every 45 minutes kept it for three hours",
            f"and expects to be stopped: brings the job up again, resumes at step {resumed.step}",
        ],
    )


_DESTROYS = ("delete_job", "cancel_job", "delete_deployment")


@scenario("F20", "cleaning up cancels and deletes trainers that the run did not create")
def cleaning_up_what_others_made(stage: Stage) -> Report:
    """A clean-up at the end takes along what was there before."""
    stage.job("mine")
    stage.job("naive")
    try:
        train(stage.client("naive"), 0)
    finally:
        stage.manager.delete("naive")  # as if whoever uses a trainer had made it
    naive = stage.exchanges(*_DESTROYS)
    claim([exchange.path.rsplit("/", 1)[-1] for exchange in naive] == ["naive"], f"{naive}")
    gone = trainers.state(stage, "naive")
    created = _managed(stage, "mine"), _managed(stage, "fresh")
    claim(created == (False, True), f"the SDK thinks that it created {created}")
    _train(stage, "mine", trainer_job_id="mine")
    claim(len(stage.exchanges(*_DESTROYS)) == 1, "a job that was named should be left alone")
    claim(trainers.state(stage, "mine") == "JOB_STATE_RUNNING", trainers.state(stage, "mine"))
    _train(stage, "own", trainer_job_id=None)
    own = stage.exchanges(*_DESTROYS)[1:]
    claim([exchange.endpoint for exchange in own] == ["cancel_job"], f"{own}")
    return Report(
        sees=[f"the trainer that somebody else had made for the run is {gone}"],
        exchanges=naive,
        right=[
            "the journal shows no DELETE and no cancel for a job that trainer_job_id named; it runs on",
            f"a job of its own is cancelled, not deleted, and can be resumed: {trainers.state(stage, 'own')}",
        ],
    )


def _managed(stage: Stage, job: str) -> bool:
    """True when the SDK's managed path counts a job as created by itself, and so as its own to clean up."""
    from fireworks.training.sdk.managed import _ManagedTinkerConfig, _start_or_reuse_trainer

    config = _ManagedTinkerConfig(base_model=BASE, trainer_job_id=job)
    started = _start_or_reuse_trainer(stage.manager, config, max_context_length=64, profile_training_shape=None)
    return bool(started.created)


def _train(stage: Stage, job: str, **settings: Any) -> None:
    """A step on a job as our recipes use one."""
    from ftsim.training.recipes.sft_loop import Config
    from ftsim.training.trainers import training_client

    config = Config(
        log_path=str(stage.folder / job), base_model=BASE, dataset="unused", tokenizer_model="unused", **settings
    )
    with trainers.patient(stage), training_client(stage.manager, config, job, 64) as client:
        train(client, 0)
