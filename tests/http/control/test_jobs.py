"""Trainer jobs through the vendor's manager: creation, states, tombstones (WIRE 1.7, 1.8, 4.1; FAILURES F)."""

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fireworks import Fireworks
from fireworks.training.sdk import TrainerJobManager
from fireworks.training.sdk.errors import TrainingAPIError

from emulator.core.errors import FailedPrecondition, NotFound
from emulator.core.names import OwnerName
from emulator.platform.checkpoints.promotion import PromoteRequest
from emulator.server import Emulator
from emulator.state.entities import Job
from tests.doubles import BASE, MOE, write_adapter, write_base
from tests.http.control.conftest import config

SHAPE = "accounts/fireworks/trainingShapes/qwen3-8b-128k-h200"
JOBS = "/v1/accounts/acct1/rlorTrainerJobs"
NewJob = Callable[..., Job]
MONTH_S = 30 * 24 * 3600


def test_a_job_runs_at_once_and_creating_it_again_returns_it(manager: TrainerJobManager) -> None:
    begun = time.perf_counter()
    endpoint = manager.create_and_wait(config(requested_job_id="j1"))
    assert time.perf_counter() - begun < 1
    assert manager.create(config(requested_job_id="j1")).job_id == endpoint.job_id == "j1"
    assert manager.get("j1")["state"] == "JOB_STATE_RUNNING"


def test_an_unknown_job_is_not_found_and_deleting_it_is_silent(manager: TrainerJobManager) -> None:
    with pytest.raises(RuntimeError, match="not found"):
        manager.get("nojob")
    assert manager.try_get("nojob") is None
    manager.delete("nojob")


def test_a_full_name_in_place_of_an_id_does_not_resolve(manager: TrainerJobManager, new_job: NewJob) -> None:
    job = new_job()
    assert manager.try_get(job.name) is None
    with pytest.raises(RuntimeError, match="404"):
        manager.list_checkpoints(job.name)


def test_the_shape_gives_the_context_length(manager: TrainerJobManager) -> None:
    profile = manager.resolve_training_profile(SHAPE)
    endpoint = manager.create_and_wait(config(requested_job_id="j1", training_shape_ref=profile.training_shape_version))
    assert endpoint.max_context_length == profile.max_supported_context_length == 131_072
    assert manager.get("j1")["trainingShape"] == f"{SHAPE}/versions/v1"


def test_a_client_that_gives_no_id_gets_one(http: httpx.Client) -> None:
    answer = http.post(JOBS, json={"trainingConfig": {"baseModel": BASE}}).json()
    job_id = answer["name"].rsplit("/", 1)[-1]
    assert len(job_id) == 16
    assert job_id.isalnum()
    assert http.get(f"{JOBS}/{job_id}").json()["state"] == "JOB_STATE_RUNNING"


@pytest.mark.parametrize(
    ("query", "body", "status", "says"),
    [
        ("", {}, 400, "baseModel is required"),
        ("", {"trainingConfig": {"baseModel": "accounts/fireworks/models/nope"}}, 404, "not found"),
        ("", {"trainingConfig": {"baseModel": "qwen3-8b"}}, 400, "invalid resource name"),
        ("", {"trainingConfig": {"baseModel": BASE, "loraRank": -1}}, 400, "loraRank"),
        ("", {"trainingConfig": {"baseModel": BASE, "loraRank": 100_000}}, 400, "loraRank"),
        ("", {"trainingConfig": {"baseModel": BASE, "loraRank": "many"}}, 400, "trainingConfig.loraRank"),
        ("", {"trainingConfig": {"baseModel": BASE, "maxContextLength": -5}}, 400, "maxContextLength"),
        ("", {"trainingConfig": [1]}, 400, "trainingConfig"),
        ("", {"trainingConfig": {"baseModel": BASE}, "displayName": "x" * 64}, 400, "displayName"),
        ("", {"trainingConfig": {"baseModel": BASE}, "inactivityTimeout": "10801s"}, 400, "3 hours"),
        ("", {"trainingConfig": {"baseModel": BASE}, "inactivityTimeout": "soon"}, 400, "duration"),
        ("rlorTrainerJobId=Bad_Id", {"trainingConfig": {"baseModel": BASE}}, 400, "rlorTrainerJobId"),
        ("rlorTrainerJobId=" + "x" * 300, {"trainingConfig": {"baseModel": BASE}}, 400, "rlorTrainerJobId"),
        ("rlorTrainerJobId=..%2Fup", {"trainingConfig": {"baseModel": BASE}}, 400, "rlorTrainerJobId"),
        (f"trainingShape={SHAPE}-x", {"trainingConfig": {"baseModel": BASE}}, 404, "training shape"),
        (f"trainingShape={SHAPE}/versions/v9", {"trainingConfig": {"baseModel": BASE}}, 404, "training shape"),
        (f"trainingShape={SHAPE}", {"trainingConfig": {"baseModel": MOE}}, 400, "is for"),
    ],
)
def test_a_bad_request_says_what_is_wrong_and_leaves_no_job(
    emu: Emulator, http: httpx.Client, query: str, body: dict[str, Any], status: int, says: str
) -> None:
    answer = http.post(f"{JOBS}?{query}", json=body)
    assert answer.status_code == status
    envelope = answer.json()
    assert set(envelope) == {"code", "message", "details"}
    assert says in envelope["message"]
    assert len(emu.world.jobs) == 0


def test_the_client_sees_the_servers_reason(manager: TrainerJobManager) -> None:
    with pytest.raises(TrainingAPIError, match="HTTP 404"):
        manager.create(config(base_model="accounts/fireworks/models/nope"))


def test_a_lora_add_on_is_no_warm_start_in_service_mode(
    emu: Emulator, http: httpx.Client, new_job: NewJob, save: Callable[..., Any]
) -> None:
    _promote(emu, save(new_job(lora_rank=8), "s1", write_adapter), "adapter")
    body = {"trainingConfig": {"baseModel": BASE, "warmStartFrom": "accounts/acct1/models/adapter"}}
    answer = http.post(JOBS, json=body)
    assert answer.status_code == 400
    assert "load_adapter" in answer.json()["message"]
    with emu.quirks.set("jobs.warm_start_lora", "ignored"):
        assert http.post(JOBS, json=body).status_code == 200


def test_a_promoted_model_is_a_base_and_a_promoted_adapter_is_not(
    emu: Emulator, http: httpx.Client, new_job: NewJob, save: Callable[..., Any]
) -> None:
    _promote(emu, save(new_job(), "full", write_base), "full")
    _promote(emu, save(new_job("j2", lora_rank=8), "adapter", write_adapter), "adapter")
    full = {"trainingConfig": {"baseModel": "accounts/acct1/models/full"}}
    assert http.post(f"{JOBS}?trainingShape={SHAPE}", json=full).status_code == 200
    answer = http.post(JOBS, json={"trainingConfig": {"baseModel": "accounts/acct1/models/adapter"}})
    assert answer.status_code == 400
    assert BASE in answer.json()["message"]


def test_a_model_without_weights_is_refused_at_creation(emu: Emulator, http: httpx.Client) -> None:
    emu.platform.backend._unknown = frozenset({MOE})  # type: ignore[attr-defined]
    answer = http.post(JOBS, json={"trainingConfig": {"baseModel": MOE}})
    assert answer.status_code == 400
    assert "--model" in answer.json()["message"]


def test_a_deleted_job_is_a_tombstone_for_thirty_days(emu: Emulator, manager: TrainerJobManager) -> None:
    manager.create(config(requested_job_id="j1"))
    manager.delete("j1")
    assert manager.get("j1")["state"] == "JOB_STATE_DELETED"
    assert manager.list_checkpoints("j1") == []
    with pytest.raises(RuntimeError, match="archived"):
        manager.create(config(requested_job_id="j1"))
    emu.clock.advance(MONTH_S - 60)
    manager.delete("j1")  # does not begin the thirty days again
    assert manager.get("j1")["state"] == "JOB_STATE_DELETED"
    emu.clock.advance(120)
    assert manager.try_get("j1") is None
    with pytest.raises(RuntimeError, match="404"):
        manager.list_checkpoints("j1")


def test_rows_and_blobs_are_forgotten_with_their_job(emu: Emulator, new_job: NewJob, save: Callable[..., Any]) -> None:
    job = new_job()
    row = save(job, "step-1", write_base)
    emu.platform.jobs.delete("acct1", "j1")
    assert emu.platform.checkpoints.folder(row).is_dir()
    emu.clock.advance(MONTH_S + 1)
    with pytest.raises(NotFound):
        emu.platform.jobs.get("acct1", "j1")
    assert not emu.platform.blobs.exists(row.blob)
    assert emu.world.checkpoints.of(job.name) == []


def test_a_tombstone_is_not_cancelled_resumed_or_listed(http: httpx.Client, new_job: NewJob) -> None:
    new_job("kept")
    new_job("gone")
    assert http.delete(f"{JOBS}/gone").json() == {}
    assert http.delete(f"{JOBS}/gone").status_code == 200
    refused = http.post(f"{JOBS}/gone:cancel")
    assert (refused.status_code, refused.json()["code"]) == (400, 9)
    assert refused.json()["message"] == "cannot cancel job in state: JOB_STATE_DELETED"
    assert http.post(f"{JOBS}/gone:resume").status_code == 400
    listed = http.get(JOBS).json()
    assert [job["name"].rsplit("/", 1)[-1] for job in listed["rlorTrainerJobs"]] == ["kept"]


def test_a_cancelled_job_is_resumed_by_the_client(manager: TrainerJobManager, http: httpx.Client) -> None:
    manager.create(config(requested_job_id="j1"))
    assert http.post(f"{JOBS}/j1:cancel").json() == {}
    assert manager.get("j1")["state"] == "JOB_STATE_CANCELLED"
    assert http.post(f"{JOBS}/j1:cancel").status_code == 200
    manager.resume_and_wait("j1")
    assert manager.get("j1")["state"] == "JOB_STATE_RUNNING"


def test_what_cancel_settles_in_is_a_switch(emu: Emulator, new_job: NewJob) -> None:
    new_job()
    with emu.quirks.set("jobs.cancel_settles_in", "DELETING", job="j1"), emu.quirks.set("jobs.cancel_s", 5.0):
        assert emu.platform.jobs.cancel("acct1", "j1").state == "JOB_STATE_CANCELLING"
        emu.clock.advance(6)
        assert emu.platform.jobs.read("acct1", "j1").state == "JOB_STATE_DELETING"
    with pytest.raises(FailedPrecondition, match="JOB_STATE_DELETING"):
        emu.platform.jobs.resume("acct1", "j1")


def test_capacity_and_start_up_take_the_time_that_quirks_say(emu: Emulator, new_job: NewJob) -> None:
    with emu.quirks.set("jobs.pending_s", 100.0), emu.quirks.set("jobs.create_s", 50.0):
        assert new_job().state == "JOB_STATE_PENDING"
        states = []
        for wait in (90, 20, 40, 20):
            emu.clock.advance(wait)
            states.append(emu.platform.jobs.read("acct1", "j1").state)
    assert [state.removeprefix("JOB_STATE_") for state in states] == ["PENDING", "CREATING", "CREATING", "RUNNING"]


def test_scripted_states_are_shown_one_a_read(emu: Emulator, manager: TrainerJobManager, new_job: NewJob) -> None:
    new_job()
    with emu.quirks.set("jobs.state_script", ["JOB_STATE_PENDING", "JOB_STATE_UNHEARD_OF"], job="j1"):
        seen = [manager.get("j1")["state"] for _ in range(3)]
    assert seen == ["JOB_STATE_PENDING", "JOB_STATE_UNHEARD_OF", "JOB_STATE_RUNNING"]


def test_a_preempted_job_fails_and_the_client_resumes_it(
    emu: Emulator, manager: TrainerJobManager, new_job: NewJob
) -> None:
    new_job()
    stopped: list[str] = []
    emu.platform.jobs.life.on_stop(lambda job: stopped.append(job.id))
    emu.platform.jobs.preempt("acct1", "j1")
    assert manager.get("j1")["state"] == "JOB_STATE_FAILED"
    assert "preempted" in manager.get("j1")["statusMessage"]
    manager.reconnect_and_wait("j1")
    assert manager.get("j1")["state"] == "JOB_STATE_RUNNING"
    assert stopped == ["j1"]


def test_a_state_that_flips_late_after_resume_defeats_the_client(
    emu: Emulator, manager: TrainerJobManager, new_job: NewJob
) -> None:
    new_job()
    emu.quirks.set("jobs.resume_flip_after_reads", 1)
    emu.platform.jobs.preempt("acct1", "j1")
    with pytest.raises(RuntimeError, match="preempted"):  # FAILURES F1: no grace for FAILED
        manager.reconnect_and_wait("j1")
    assert manager.get("j1")["state"] == "JOB_STATE_RUNNING"


def test_a_dead_trainer_still_shown_as_running_does_not_answer(
    emu: Emulator, manager: TrainerJobManager, new_job: NewJob
) -> None:
    new_job()
    emu.quirks.set("jobs.stale_running_reads", 2)
    emu.platform.jobs.preempt("acct1", "j1")
    assert emu.platform.jobs.health("acct1", "j1") == 503
    states = [manager.get("j1")["state"] for _ in range(3)]
    assert states == ["JOB_STATE_RUNNING", "JOB_STATE_RUNNING", "JOB_STATE_FAILED"]


def test_an_idle_job_stops_and_a_used_one_does_not(emu: Emulator, manager: TrainerJobManager) -> None:
    manager.create(config(requested_job_id="j1", inactivity_timeout="600s"))
    emu.clock.advance(500)
    emu.platform.jobs.running("acct1", "j1")
    emu.clock.advance(500)
    assert manager.get("j1")["state"] == "JOB_STATE_RUNNING"
    emu.clock.advance(200)
    assert manager.get("j1")["state"] == "JOB_STATE_PAUSED"
    with pytest.raises(NotFound, match="not running"):
        emu.platform.jobs.running("acct1", "j1")
    manager.resume_and_wait("j1")
    assert manager.get("j1")["state"] == "JOB_STATE_RUNNING"


def test_the_same_id_with_other_facts_hands_back_the_old_job(manager: TrainerJobManager) -> None:
    manager.create(config(requested_job_id="j1", lora_rank=8))
    again = manager.create(config(requested_job_id="j1", lora_rank=16, base_model=MOE))
    assert manager.get(again.job_id)["trainingConfig"]["loraRank"] == 8  # FAILURES F5


def test_the_generic_client_lists_filters_and_pages_jobs(emu: Emulator, new_job: NewJob) -> None:
    for number in range(5):
        new_job(f"j{number}", display_name="even" if number % 2 == 0 else "odd")
    with Fireworks(api_key=emu.api_key, base_url=emu.url, account_id="acct1") as generic:
        steps = generic.reinforcement_fine_tuning_steps
        assert [job.name[-2:] for job in steps.list(page_size=2) if job.name] == ["j0", "j1", "j2", "j3", "j4"]
        even = steps.list(filter='display_name="even" AND state="JOB_STATE_RUNNING"')
        assert [job.name[-2:] for job in even if job.name] == ["j0", "j2", "j4"]
        assert [job.name[-2:] for job in steps.list(page_size=2, order_by="create_time desc") if job.name] == [
            "j4",
            "j3",
            "j2",
            "j1",
            "j0",
        ]
        assert steps.get("j3").display_name == "odd"


def _promote(emu: Emulator, row: Any, model_id: str) -> None:
    emu.platform.promotion.promote(
        PromoteRequest("acct1", OwnerName.parse(row.owner), row.id, f"accounts/acct1/models/{model_id}", row.base_model)
    )
