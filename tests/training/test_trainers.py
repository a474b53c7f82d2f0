"""Bringing up a job from every state it may be found in, with a manager that follows a script."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ftsim.training.errors import TrainerError
from ftsim.training.sdk import TrainerJobConfig
from ftsim.training.trainers import bring_up, close_finished, job_id_for


@dataclass
class ScriptedManager:
    """Reads the scripted states one after the other, the last one for ever; resume moves on in the script."""

    states: list[str | None]
    training_config: dict[str, Any] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)

    def try_get(self, job_id: str) -> dict[str, Any] | None:
        state = self.states[0]
        if len(self.states) > 1:
            self.states.pop(0)
        return None if state is None else {"state": f"JOB_STATE_{state}", "trainingConfig": self.training_config}

    def get(self, job_id: str) -> dict[str, Any]:
        job = self.try_get(job_id)
        assert job is not None
        return job

    def create(self, config: TrainerJobConfig) -> None:
        self.calls.append("create")

    def wait_for_existing(self, job_id: str, **_: Any) -> str:
        self.calls.append("wait")
        state = self.get(job_id)["state"]
        if state != "JOB_STATE_RUNNING":
            raise RuntimeError(f"{job_id} is {state}")
        return "endpoint"

    def resume_and_wait(self, job_id: str, **_: Any) -> str:
        self.calls.append("resume")
        return self.wait_for_existing(job_id)

    def reconnect_and_wait(self, job_id: str, **_: Any) -> str:
        self.calls.append("reconnect")
        return self.resume_and_wait(job_id)


def run(manager: ScriptedManager, grace_s: float = 60.0) -> Any:
    wanted = TrainerJobConfig(base_model="base", lora_rank=8, requested_job_id="job")
    scripted: Any = manager
    return bring_up(scripted, wanted, timeout_s=10, poll_s=2, grace_s=grace_s, sleep=lambda _: None)


@pytest.mark.parametrize(
    ("states", "calls"),
    [
        ([None, "RUNNING"], ["create", "wait"]),
        (["RUNNING"], ["wait"]),
        (["CANCELLED", "CANCELLED", "RUNNING"], ["resume", "wait"]),
        (["COMPLETED", "COMPLETED", "RUNNING"], ["resume", "wait"]),
        (["PAUSED", "PAUSED", "RUNNING"], ["resume", "wait"]),
        (["CANCELLING", "CANCELLING", "RUNNING"], ["reconnect", "resume", "wait"]),
    ],
)
def test_a_job_is_created_awaited_or_resumed(states: list[str | None], calls: list[str]) -> None:
    manager = ScriptedManager(states)
    assert run(manager) == "endpoint"
    assert manager.calls == calls


def test_a_failure_still_read_after_the_resume_is_not_believed() -> None:
    """F1."""
    assert run(ScriptedManager(["FAILED", "FAILED", "FAILED", "RUNNING"])) == "endpoint"


def test_a_job_that_is_running_only_on_paper_is_resumed() -> None:
    """F2."""
    manager = ScriptedManager(["RUNNING", "RUNNING", "FAILED", "FAILED", "RUNNING"])
    assert run(manager) == "endpoint"
    assert manager.calls == ["wait", "resume", "wait"]


def test_a_job_that_keeps_failing_is_given_up() -> None:
    manager = ScriptedManager(["FAILED"])
    with pytest.raises(TrainerError, match="does not come up: job is JOB_STATE_FAILED"):
        run(manager, grace_s=6)
    assert manager.calls.count("resume") == 4


@pytest.mark.parametrize("state", ["DELETED", "ARCHIVED"])
def test_a_deleted_job_is_refused_with_the_way_out(state: str) -> None:
    """F3, F4."""
    with pytest.raises(TrainerError, match=r"was deleted.*init_from_checkpoint='job:"):
        run(ScriptedManager([state]))


@pytest.mark.parametrize("config", [{"baseModel": "other", "loraRank": 8}, {"baseModel": "base", "loraRank": 0}])
def test_a_job_made_for_something_else_is_refused(config: dict[str, Any]) -> None:
    """F5."""
    with pytest.raises(TrainerError, match="use a new log_path"):
        run(ScriptedManager(["RUNNING"], config))


@pytest.mark.parametrize("change", [{"lora_rank": 0}, {"base_model": "other"}])
def test_a_complete_run_is_not_taken_for_one_of_other_settings(change: dict[str, Any]) -> None:
    manager: Any = ScriptedManager(["CANCELLED"], {"baseModel": "base", "loraRank": 8})
    same = SimpleNamespace(base_model="base", lora_rank=8, trainer_job_id=None)
    close_finished(manager, same, "job")
    with pytest.raises(TrainerError, match="use a new log_path for another kind of run"):
        close_finished(manager, SimpleNamespace(**(vars(same) | change)), "job")


def test_the_job_id_belongs_to_the_folder_however_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.symlink(tmp_path, tmp_path / "link")
    ids = {job_id_for("sft", path) for path in ("run", "./run/", tmp_path / "run", tmp_path / "link" / "run")}
    assert len(ids) == 1
    assert job_id_for("sft", "other") not in ids
    assert job_id_for("dpo", "run") not in ids
    assert len(ids.pop()) <= 63
