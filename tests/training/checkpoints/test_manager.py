"""The client bugs of docs/failures.md, sections A to C, must not exist here."""

import json
from pathlib import Path
from typing import Any

import pytest

from ftsim.training.checkpoints.manager import ResumeInfo, TrainingCheckpoints
from ftsim.training.errors import CheckpointError, ConfigError
from tests.training.fakes import FakePlane, FakeTrainer


@pytest.fixture
def plane() -> FakePlane:
    return FakePlane()


def manager(plane: FakePlane, folder: Path, trainer: FakeTrainer | None = None, **more: Any) -> TrainingCheckpoints:
    slept: list[float] = []
    more = {"list_wait_s": 5.0, "sleep": slept.append, **more}
    return TrainingCheckpoints(
        trainer or FakeTrainer(plane), plane, trainer_id="sft-job", log_path=folder, lora_rank=0, **more
    )


def cursor_file(folder: Path) -> dict[str, int]:
    return json.loads((folder / "dataloader.json").read_text())  # type: ignore[no-any-return]


def names(plane: FakePlane) -> list[str]:
    return [row["name"].rsplit("/", 1)[-1] for row in plane.rows]


def test_a_periodic_save_is_resumable_only_and_the_final_one_both(plane: FakePlane, tmp_path: Path) -> None:
    checkpoints = manager(plane, tmp_path)
    checkpoints.save("step-2", resumable=True, promotable=False, data_consumed=16)
    assert names(plane) == ["step-2"]
    checkpoints.save("step-4", resumable=True, promotable=True, data_consumed=32)
    assert names(plane) == ["step-2", "step-4", "step-4-aaaaaaaa"]
    assert cursor_file(tmp_path) == {"step-2": 16, "step-4": 32}


def test_the_next_process_resumes_the_newest_row_with_its_cursor(plane: FakePlane, tmp_path: Path) -> None:
    first = manager(plane, tmp_path)
    for step in (2, 4):
        first.save(f"step-{step}", resumable=True, promotable=False, data_consumed=step * 8)
    trainer = FakeTrainer(plane, session_id="bbbbbbbb")
    assert manager(plane, tmp_path, trainer).resume() == ResumeInfo(4, 32, "step-4")
    assert trainer.calls == [("load_with_optimizer", "step-4")]


def test_mixed_precision_does_not_resume_the_older_row(plane: FakePlane, tmp_path: Path) -> None:
    """A1, A2: as text the whole second sorts last."""
    plane.add("step-2", created="2026-08-01T10:00:13Z")
    plane.add("step-4", created="2026-08-01T10:00:13.500000Z")
    (tmp_path / "dataloader.json").write_text('{"step-2": 16, "step-4": 32}')
    resumed = manager(plane, tmp_path).resume()
    assert resumed is not None
    assert resumed.source == "step-4"


def test_a_save_in_the_same_second_is_not_taken_for_the_row_before(plane: FakePlane, tmp_path: Path) -> None:
    """A3."""
    plane.add("step-10", created="2026-08-01T10:00:13Z")
    (tmp_path / "dataloader.json").write_text('{"step-10": 80}')
    trainer = FakeTrainer(plane)
    checkpoints = manager(plane, tmp_path, trainer)
    checkpoints.resume()
    checkpoints.save("step-20", resumable=True, promotable=False, data_consumed=777)
    assert cursor_file(tmp_path) == {"step-10": 80, "step-20": 777}


def test_a_server_clock_that_is_behind_costs_no_wait(plane: FakePlane, tmp_path: Path) -> None:
    """A4: rows carry times long before the save began, by this machine's clock."""
    slept: list[float] = []
    manager(plane, tmp_path, sleep=slept.append).save("step-1", resumable=True, promotable=False, data_consumed=8)
    assert slept == []


def test_a_lagging_list_is_waited_for(plane: FakePlane, tmp_path: Path) -> None:
    """A6, saving: the row before must not be taken for the new one meanwhile."""
    trainer = FakeTrainer(plane)
    checkpoints = manager(plane, tmp_path, trainer)
    checkpoints.save("step-41", resumable=True, promotable=False, data_consumed=328)
    trainer.rename = lambda name: "step-0"
    plane.lag = 3
    checkpoints.save("step-42", resumable=True, promotable=False, data_consumed=336)
    assert cursor_file(tmp_path) == {"step-41": 328, "step-42": 336, "step-0": 336}


def test_a_row_that_shows_late_is_not_taken_for_the_next_save(plane: FakePlane, tmp_path: Path) -> None:
    checkpoints = manager(plane, tmp_path, list_wait_s=0.3)
    plane.lag = 5
    checkpoints.save("step-1", resumable=True, promotable=False, data_consumed=8)
    plane.lag = 2
    checkpoints.save("step-2", resumable=True, promotable=False, data_consumed=16)
    assert cursor_file(tmp_path) == {"step-1": 8, "step-2": 16}


def test_a_resume_waits_for_the_newest_save_on_record(plane: FakePlane, tmp_path: Path) -> None:
    """A6, resuming."""
    first = manager(plane, tmp_path, list_wait_s=0)
    first.save("step-1", resumable=True, promotable=False, data_consumed=8)
    plane.lag = 4
    first.save("step-2", resumable=True, promotable=False, data_consumed=16)
    assert manager(plane, tmp_path).resume() == ResumeInfo(2, 16, "step-2")


def test_a_renamed_row_keeps_cursor_and_step(plane: FakePlane, tmp_path: Path) -> None:
    """A8."""
    trainer = FakeTrainer(plane, rename=lambda name: "step-0")
    manager(plane, tmp_path, trainer).save("step-42", resumable=True, promotable=False, data_consumed=336)
    assert manager(plane, tmp_path).resume() == ResumeInfo(42, 336, "step-0")


def test_a_row_renamed_later_is_followed(plane: FakePlane, tmp_path: Path) -> None:
    """A9."""
    checkpoints = manager(plane, tmp_path)
    checkpoints.save("step-2", resumable=True, promotable=False, data_consumed=16)
    plane.rows[0]["name"] = plane.rows[0]["name"].replace("step-2", "step-0")
    checkpoints.save("step-4", resumable=True, promotable=False, data_consumed=32)
    assert cursor_file(tmp_path) == {"step-2": 16, "step-0": 16, "step-4": 32}


def test_an_unreadable_list_stops_the_run(plane: FakePlane, tmp_path: Path) -> None:
    """A15."""
    plane.fail_list = RuntimeError("ERROR: (HTTP 503)")
    with pytest.raises(CheckpointError, match="cannot be listed"):
        manager(plane, tmp_path).resume()


def test_another_sessions_sampler_row_does_not_pass_for_ours(plane: FakePlane, tmp_path: Path) -> None:
    """A12: neither when saving nor when promoting."""
    plane.add("step-10-cccccccc", "INFERENCE_BASE")
    plane.add("step-4")
    (tmp_path / "dataloader.json").write_text('{"step-4": 32}')
    checkpoints = manager(plane, tmp_path)
    checkpoints.resume()
    checkpoints.save("step-10", resumable=True, promotable=True, data_consumed=80)
    plane.add("step-10-dddddddd", "INFERENCE_BASE")
    checkpoints.promote_latest("model", "base")
    assert plane.promoted == ["step-10-aaaaaaaa"]


def test_the_very_same_save_is_not_made_twice(plane: FakePlane, tmp_path: Path) -> None:
    trainer = FakeTrainer(plane)
    checkpoints = manager(plane, tmp_path, trainer)
    for _ in range(2):
        checkpoints.save("step-3", resumable=True, promotable=True, data_consumed=24)
    assert trainer.calls == [("save_state", "step-3"), ("save_sampler", "step-3")]


def test_a_name_that_is_used_again_later_gets_the_later_weights(plane: FakePlane, tmp_path: Path) -> None:
    """A loop keeps the best so far under one name; a snapshot of an earlier step must not pass for it."""
    trainer = FakeTrainer(plane)
    checkpoints = manager(plane, tmp_path, trainer)
    for consumed in (8, 16):
        checkpoints.save("best", resumable=True, promotable=True, data_consumed=consumed)
    both = [("save_state", "best"), ("save_sampler", "best"), ("save_state", "best-r2"), ("save_sampler", "best")]
    assert trainer.calls == both
    for _ in range(2):
        checkpoints.save("lowest", resumable=False, promotable=True)
    assert trainer.calls == [*both, ("save_sampler", "lowest"), ("save_sampler", "lowest")]


def test_sampler_weights_stamped_in_whole_seconds_are_not_older_than_the_state_of_their_second(
    plane: FakePlane, tmp_path: Path
) -> None:
    trainer = FakeTrainer(plane)
    checkpoints = manager(plane, tmp_path, trainer)
    checkpoints.save("step-3", resumable=True, promotable=True, data_consumed=24)
    for row, stamp in zip(plane.rows, ("13.500000", "13"), strict=True):
        row["createTime"] = f"2026-08-01T10:00:{stamp}Z"
    resumed = manager(plane, tmp_path, trainer)
    resumed.resume()
    resumed.save("step-3", resumable=True, promotable=True, data_consumed=24)
    assert [call for call, _ in trainer.calls] == ["save_state", "save_sampler", "load_with_optimizer"]


def test_a_later_save_that_fails_is_not_taken_for_the_earlier_one(plane: FakePlane, tmp_path: Path) -> None:
    trainer = FakeTrainer(plane)
    checkpoints = manager(plane, tmp_path, trainer)
    checkpoints.save("best", resumable=False, promotable=True)

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("already exists")

    trainer.save_weights_for_sampler_ext = refuse  # type: ignore[method-assign]
    with pytest.raises(CheckpointError, match="sampler checkpoint best was not saved: already exists"):
        checkpoints.save("best", resumable=False, promotable=True)


@pytest.mark.parametrize("name", ["eval-20260401", "run-deadbeef", "step-12345678"])
def test_a_name_that_looks_suffixed_is_still_a_name(plane: FakePlane, tmp_path: Path, name: str) -> None:
    """A11."""
    plane.add(name.rsplit("-", 1)[0] + "-aaaaaaaa", "INFERENCE_BASE")
    trainer = FakeTrainer(plane)
    manager(plane, tmp_path, trainer).save(name, resumable=False, promotable=True)
    assert trainer.calls == [("save_sampler", name)]


@pytest.mark.parametrize("name", ["step_10", "Step-1", "-a", "a/b", "", "x" * 55])
def test_a_name_that_could_not_be_loaded_is_refused_when_saving(plane: FakePlane, tmp_path: Path, name: str) -> None:
    """B3, B4."""
    with pytest.raises(ValueError, match="could not be loaded"):
        manager(plane, tmp_path).save(name, resumable=True, promotable=False, data_consumed=1)
    assert plane.rows == []


def test_a_resumable_save_without_a_cursor_is_refused(plane: FakePlane, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="data_consumed"):
        manager(plane, tmp_path).save("step-1", resumable=True, promotable=False)
    with pytest.raises(ValueError, match="resumable, promotable or both"):
        manager(plane, tmp_path).save("step-1", resumable=False, promotable=False)


def test_a_save_whose_reply_was_lost_is_looked_up(plane: FakePlane, tmp_path: Path) -> None:
    """B2."""
    trainer = FakeTrainer(plane, fail_save=RuntimeError("409 already exists"), apply_before_failing=True)
    manager(plane, tmp_path, trainer).save("step-1", resumable=True, promotable=False, data_consumed=8)
    assert cursor_file(tmp_path) == {"step-1": 8}


def test_a_save_that_failed_fails_the_run(plane: FakePlane, tmp_path: Path) -> None:
    """B7."""
    trainer = FakeTrainer(plane, fail_save=RuntimeError("disk full"))
    with pytest.raises(CheckpointError, match="disk full"):
        manager(plane, tmp_path, trainer).save("step-1", resumable=True, promotable=False, data_consumed=8)
    assert manager(plane, tmp_path).resume() is None


def test_a_process_killed_right_after_the_save_left_its_cursor(plane: FakePlane, tmp_path: Path) -> None:
    trainer = FakeTrainer(plane, fail_save=KeyboardInterrupt(), apply_before_failing=True)
    with pytest.raises(KeyboardInterrupt):
        manager(plane, tmp_path, trainer).save("step-6", resumable=True, promotable=False, data_consumed=48)
    assert manager(plane, tmp_path).resume() == ResumeInfo(6, 48, "step-6")


def test_a_torn_newest_row_is_passed_over(plane: FakePlane, tmp_path: Path) -> None:
    """C22, and the name it holds is not reused."""
    first = manager(plane, tmp_path)
    first.save("step-2", resumable=True, promotable=False, data_consumed=16)
    first.save("step-4", resumable=True, promotable=False, data_consumed=32)
    trainer = FakeTrainer(plane, broken=frozenset({"step-4"}))
    second = manager(plane, tmp_path, trainer)
    assert second.resume() == ResumeInfo(2, 16, "step-2")
    second.save("step-4", resumable=True, promotable=False, data_consumed=32)
    assert trainer.calls[-1] == ("save_state", "step-4-r2")
    assert manager(plane, tmp_path, trainer).resume() == ResumeInfo(4, 32, "step-4-r2")


def test_when_every_row_is_torn_the_run_does_not_start_over(plane: FakePlane, tmp_path: Path) -> None:
    manager(plane, tmp_path).save("step-2", resumable=True, promotable=False, data_consumed=16)
    with pytest.raises(CheckpointError, match=r"not starting over.*step-2 has no metadata"):
        manager(plane, tmp_path, FakeTrainer(plane, broken=frozenset({"step-2"}))).resume()


def test_a_lost_connection_is_not_a_torn_checkpoint(plane: FakePlane, tmp_path: Path) -> None:
    manager(plane, tmp_path).save("step-2", resumable=True, promotable=False, data_consumed=16)
    trainer = FakeTrainer(plane)
    trainer.load_state_with_optimizer = lambda path: (_ for _ in ()).throw(ConnectionError())  # type: ignore[method-assign]
    with pytest.raises(ConnectionError):
        manager(plane, tmp_path, trainer).resume()


def test_a_run_killed_in_a_save_that_is_torn_goes_on_from_the_one_before(plane: FakePlane, tmp_path: Path) -> None:
    """C22: the torn row is this run's own, though nobody lived to record it."""
    first = manager(plane, tmp_path)
    first.save("step-2", data_consumed=16)
    first.cursors.announce("step-4", 32)
    plane.add("step-4")
    for session in ("bbbbbbbb", "cccccccc"):  # the second rerun finds what a rerun killed at once has left
        trainer = FakeTrainer(plane, session_id=session, broken=frozenset({"step-4"}))
        again = manager(plane, tmp_path, trainer)
        assert again.resume(saves=[2, 4, 6]) == ResumeInfo(2, 16, "step-2")
    again.save("step-4", data_consumed=32)
    assert cursor_file(tmp_path)["step-4-r2"] == 32


def test_a_row_that_shows_after_its_run_was_resumed_without_it_is_still_its_own(
    plane: FakePlane, tmp_path: Path
) -> None:
    """A6."""
    first = manager(plane, tmp_path)
    first.save("step-2", data_consumed=16)
    first.cursors.announce("step-4", 32)
    again = manager(plane, tmp_path, FakeTrainer(plane, session_id="bbbbbbbb"))
    assert again.resume(saves=[2, 4]) == ResumeInfo(2, 16, "step-2")
    plane.add("step-4")
    again.save("step-4", data_consumed=32)
    assert cursor_file(tmp_path)["step-4-r2"] == 32


def test_cursors_of_another_job_are_refused(plane: FakePlane, tmp_path: Path) -> None:
    """C13."""
    (tmp_path / "dataloader.json").write_text('{"step-4": 32}')
    with pytest.raises(CheckpointError, match="belong to another job"):
        manager(plane, tmp_path).resume()
    with pytest.raises(CheckpointError, match="belong to another job"):
        manager(plane, tmp_path).finished(32)


def test_rows_without_cursors_are_refused(plane: FakePlane, tmp_path: Path) -> None:
    plane.add("step-4")
    with pytest.raises(CheckpointError, match="does not say how many data rows"):
        manager(plane, tmp_path).resume()


def test_a_row_of_step_zero_needs_no_cursor(plane: FakePlane, tmp_path: Path) -> None:
    plane.add("step-0")
    assert manager(plane, tmp_path).resume() is None


def test_rows_of_a_later_phase_are_left_alone(plane: FakePlane, tmp_path: Path) -> None:
    """C24."""
    manager(plane, tmp_path / "dpo").save("step-2", resumable=True, promotable=False, data_consumed=16)
    later = manager(plane, tmp_path / "rl", FakeTrainer(plane, session_id="bbbbbbbb"))
    assert later.resume(init_from_checkpoint="sft-job:step-2") == ResumeInfo(0, 0, "sft-job:step-2")
    later.save("rl-step-7", resumable=True, promotable=False, data_consumed=70)
    resumed = manager(plane, tmp_path / "dpo").resume()
    assert resumed is not None
    assert resumed.source == "step-2"


def test_a_name_taken_by_another_phase_is_not_overwritten(plane: FakePlane, tmp_path: Path) -> None:
    """C14."""
    manager(plane, tmp_path / "dpo").save("step-2", resumable=True, promotable=False, data_consumed=16)
    with pytest.raises(CheckpointError, match="not from this log_path"):
        manager(plane, tmp_path / "rl").save("step-2", resumable=True, promotable=False, data_consumed=4)


def test_a_step_to_come_whose_name_is_taken_is_refused_at_the_start(plane: FakePlane, tmp_path: Path) -> None:
    """C14: at the last save it would cost the run."""
    manager(plane, tmp_path / "dpo").save("step-2", resumable=True, promotable=False, data_consumed=16)
    start: dict[str, Any] = {"init_from_checkpoint": "sft-job:step-2", "saves": [1, 2]}
    with pytest.raises(CheckpointError, match="already has a checkpoint 'step-2'"):
        manager(plane, tmp_path / "rl").resume(**start)
    second = manager(plane, tmp_path / "rl", phase="rl")
    assert second.resume(**start) == ResumeInfo(0, 0, "sft-job:step-2")
    assert second.save_step(2, 4) == "rl-step-2"
    again = manager(plane, tmp_path / "rl", phase="rl")
    assert again.resume(**start) == ResumeInfo(2, 4, "rl-step-2")


def test_steps_whose_cursors_are_forgotten_do_not_hinder_those_to_come(plane: FakePlane, tmp_path: Path) -> None:
    """C19: only the newest cursors are kept, and a long run's first rows have none."""
    first = manager(plane, tmp_path)
    for step in range(1, 30):
        first.save_step(step, step)
    assert manager(plane, tmp_path).resume(saves=range(1, 40)) == ResumeInfo(29, 29, "step-29")


@pytest.mark.parametrize(
    ("ref", "loaded"), [("other-job:step-4", "cross_job://other-job/step-4"), ("sft-job:step-4", "step-4")]
)
def test_init_from_loads_weights_and_starts_at_zero(plane: FakePlane, tmp_path: Path, ref: str, loaded: str) -> None:
    """C3 for the job's own checkpoints."""
    trainer = FakeTrainer(plane)
    resumed = manager(plane, tmp_path, trainer).resume(init_from_checkpoint=ref)
    assert resumed == ResumeInfo(0, 0, ref)
    assert trainer.calls == [("load_weights", loaded)]


def test_a_start_that_does_not_load_is_named(plane: FakePlane, tmp_path: Path) -> None:
    trainer = FakeTrainer(plane, broken=frozenset({"step-4"}))
    with pytest.raises(CheckpointError, match="sft-job:step-4 cannot be started from: step-4 has no metadata"):
        manager(plane, tmp_path, trainer).resume(init_from_checkpoint="sft-job:step-4")


def test_an_interrupted_run_that_began_from_a_checkpoint_goes_on_from_its_own(plane: FakePlane, tmp_path: Path) -> None:
    first = manager(plane, tmp_path)
    first.resume(init_from_checkpoint="other-job:step-4")
    first.save("step-2", resumable=True, promotable=False, data_consumed=16)
    assert manager(plane, tmp_path).resume(init_from_checkpoint="other-job:step-4") == ResumeInfo(2, 16, "step-2")


def test_a_warm_start_loads_the_adapter(plane: FakePlane, tmp_path: Path) -> None:
    trainer = FakeTrainer(plane)
    manager(plane, tmp_path, trainer).resume(warm_start_from_adapter="accounts/a/models/m")
    assert trainer.calls == [("load_adapter", "accounts/a/models/m")]
    with pytest.raises(ConfigError, match="exclude each other"):
        manager(plane, tmp_path).resume("job:step-1", "accounts/a/models/m")


def test_a_finished_run_is_recognised_without_a_trainer(plane: FakePlane, tmp_path: Path) -> None:
    manager(plane, tmp_path).save("step-4", resumable=True, promotable=True, data_consumed=32)
    again = TrainingCheckpoints(None, plane, trainer_id="sft-job", log_path=tmp_path, lora_rank=0)
    assert not again.finished(40)
    assert again.finished(32)
    again.promote_latest("model", "base")
    assert plane.promoted == ["step-4-aaaaaaaa"]


def test_a_run_without_its_sampler_row_is_not_finished(plane: FakePlane, tmp_path: Path) -> None:
    plane.add("step-4-cccccccc", "INFERENCE_BASE")
    manager(plane, tmp_path).save("step-4", resumable=True, promotable=False, data_consumed=32)
    assert not manager(plane, tmp_path).finished(32)


def test_a_job_that_was_never_made_is_not_finished(plane: FakePlane, tmp_path: Path) -> None:
    plane.fail_list = RuntimeError("ERROR: Failed to list checkpoints (HTTP 404)")
    assert not manager(plane, tmp_path).finished(32)


def test_promotion_waits_for_the_row(plane: FakePlane, tmp_path: Path) -> None:
    """A6."""
    checkpoints = manager(plane, tmp_path)
    plane.lag = 4
    checkpoints.save("step-4", resumable=True, promotable=True, data_consumed=32)
    checkpoints.promote_latest("model", "base")
    assert plane.promoted == ["step-4-aaaaaaaa"]


def test_promotion_waits_for_the_last_save_although_earlier_ones_of_the_session_are_listed(
    plane: FakePlane, tmp_path: Path
) -> None:
    """A6: a recipe that samples has saved a snapshot for each sync before its final one."""
    trainer = FakeTrainer(plane)
    trainer.save_weights_for_sampler_ext("sync-1", "base")
    checkpoints = manager(plane, tmp_path, trainer)
    plane.lag = 6
    checkpoints.save("step-4", resumable=False, promotable=True)
    checkpoints.promote_latest("model", "base")
    assert plane.promoted == ["step-4-aaaaaaaa"]


def test_a_snapshot_of_the_session_after_the_last_save_is_the_newest(plane: FakePlane, tmp_path: Path) -> None:
    trainer = FakeTrainer(plane)
    checkpoints = manager(plane, tmp_path, trainer)
    checkpoints.save("step-4", resumable=False, promotable=True)
    trainer.save_weights_for_sampler_ext("step-5", "base")
    checkpoints.promote_latest("model", "base")
    assert plane.promoted == ["step-5-aaaaaaaa"]


def test_promotion_without_a_promotable_row_says_what_to_save(plane: FakePlane, tmp_path: Path) -> None:
    plane.add("step-4")
    plane.add("step-4-aaaaaaab", "INFERENCE_ARC_V2")
    with pytest.raises(CheckpointError, match="promotable=True"):
        manager(plane, tmp_path).promote_latest("model", "base")


def test_a_row_listed_without_suffix_is_still_ours(plane: FakePlane, tmp_path: Path) -> None:
    """A10."""
    checkpoints = manager(plane, tmp_path)
    checkpoints.save("step-4", resumable=False, promotable=True)
    plane.rows[-1]["name"] = plane.rows[-1]["name"].removesuffix("-aaaaaaaa")
    checkpoints.promote_latest("model", "base")
    assert plane.promoted == ["step-4"]
