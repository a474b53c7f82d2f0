"""Our own checkpoint manager has no hole; managers with well-known holes are found out."""

import random
import re
import select
from functools import partial
from typing import Any

import pytest
from hypothesis import find, strategies as st

from ftsim.testing import CheckpointManagerMachine, ManagerFault, check_checkpoint_manager, managers
from ftsim.testing.search import play
from ftsim.testing.strategies import Crash, Event, Promote, Save, Train
from ftsim.training.checkpoints.manager import ResumeInfo, TrainingCheckpoints
from tests.properties.profiles import batches, run_machine

no_wait = partial(TrainingCheckpoints, sleep=lambda seconds: None)


class OurManager(CheckpointManagerMachine):
    factory = staticmethod(no_wait)


@pytest.mark.parametrize(
    ("batch", "runs"), [(0, 2), *(pytest.param(batch, 6, marks=pytest.mark.slow) for batch in batches(dev=1, ci=4))]
)
def test_our_manager_comes_through_every_history(batch: int, runs: int) -> None:
    run_machine(OurManager, batch, runs=runs, steps=12)


class Forgetful(TrainingCheckpoints):
    """Starts over."""

    def resume(self, *args: Any, **options: Any) -> ResumeInfo | None:
        return None


class Weightsonly(TrainingCheckpoints):
    """Loads without the optimizer."""

    def _load_newest(self, candidates: Any) -> ResumeInfo:
        info = super()._load_newest(candidates)
        assert self.client is not None
        self.client.load_state(info.source).result()
        return info


class OffByOne(TrainingCheckpoints):
    """Reads "saved after batch N" as "batch N is next" (FAILURES C15)."""

    def resume(self, *args: Any, **options: Any) -> ResumeInfo | None:
        info = super().resume(*args, **options)
        return info and ResumeInfo(info.step, info.data_consumed - 1, info.source)


class OldestFirst(TrainingCheckpoints):
    """Takes the first promotable row of the list (FAILURES A7)."""

    def promote_latest(self, output_model_id: str, base_model: str) -> dict[str, Any]:
        rows = self.fw_client.list_checkpoints(self.trainer_id)
        row = next(row for row in rows if row.get("promotable"))
        return dict(
            self.fw_client.promote_checkpoint(name=row["name"], output_model_id=output_model_id, base_model=base_model)
        )


class NewestOfTheJob(TrainingCheckpoints):
    """Takes the newest promotable row of the job, saved by a branch that a crash has cut off or not."""

    def _own_promotable(self, rows: Any) -> Any:
        return next((row for row in rows if row.promotable), None)


SAVED_AND_CRASHED = (Train(1), Save(True, False), Crash(), Train(1))
PROMOTED = (Train(1), Save(True, True), Train(1), Save(True, True), Promote())
HOLES = [
    (Forgetful, "loses the run", SAVED_AND_CRASHED),
    (Weightsonly, "the optimizer's state is not", SAVED_AND_CRASHED),
    (OffByOne, "trained twice", SAVED_AND_CRASHED),
    (OldestFirst, "promotes wrong", PROMOTED),
    (NewestOfTheJob, "promotes wrong", (Train(1), Save(True, False), Train(1), Save(False, True), Crash(), Promote())),
]


@pytest.mark.parametrize(("manager", "fault", "history"), HOLES)
def test_a_manager_with_a_hole_goes_wrong_in_its_history(
    manager: type[TrainingCheckpoints], fault: str, history: tuple[Event, ...]
) -> None:
    found = play(partial(manager, sleep=lambda seconds: None), 0, history)
    assert found is not None
    assert re.search(fault, found.fault)
    assert play(no_wait, 0, history) is None


@pytest.mark.parametrize(
    ("manager", "fault"),
    [
        pytest.param(manager, fault, marks=() if manager is OffByOne else pytest.mark.slow)
        for manager, fault, _ in HOLES
    ],
)
def test_a_manager_with_a_hole_is_found_out(manager: type[TrainingCheckpoints], fault: str) -> None:
    with pytest.raises(ManagerFault, match=fault) as caught:
        check_checkpoint_manager(partial(manager, sleep=lambda seconds: None), runs=20, lora_ranks=(0,))
    assert 2 <= len(caught.value.history) <= 7
    assert "The history of the run:\n  1. a " in str(caught.value)


class ComparesText(TrainingCheckpoints):
    """Takes the createTime that sorts last as text for the newest (FAILURES A1), and is slow on top."""

    def save(self, *args: Any, **options: Any) -> Any:
        select.select([], [], [], 0.5)  # the machine's time, not the manager's: its waits move the emulator's clock
        return super().save(*args, **options)

    def _resumable_rows(self, missing_job_is_empty: bool = False) -> Any:
        stamps = {
            row["name"].rsplit("/", 1)[1]: row["createTime"] for row in self.fw_client.list_checkpoints(self.trainer_id)
        }
        found = super()._resumable_rows(missing_job_is_empty)
        return sorted(found, key=lambda pair: stamps[pair[0].id], reverse=True)


def test_a_history_is_the_same_on_a_machine_that_is_slow() -> None:
    """The second save falls into the second of the first, though a whole second has passed by the wall clock."""
    coarse, precise = Save(True, False, coarse=True), Save(True, False)
    found = play(ComparesText, 0, (Train(1), coarse, Train(1), precise, Crash()))
    assert found is not None
    assert found.fault.startswith("resumes wrong: at step 1")


def test_a_promotable_twin_of_the_save_that_a_run_came_back_to_may_be_promoted() -> None:
    twin = (Train(1), Save(True, False), Save(False, True), Crash(), Promote())
    assert play(no_wait, 0, twin) is None
    assert play(partial(NewestOfTheJob, sleep=lambda seconds: None), 0, twin) is None


def test_the_old_names_of_service_switches_still_work_and_tell_the_new_ones() -> None:
    from ftsim.testing import managers, save_histories, strategies

    with pytest.warns(DeprecationWarning, match=r"strategies\.ServiceSwitch"):
        assert strategies.Weather is strategies.ServiceSwitch
    with pytest.warns(DeprecationWarning, match=r"managers\.SWITCHES"):
        assert managers.WEATHER is managers.SWITCHES
    late = strategies.ServiceSwitch("rows.visible_after_lists", 2)
    with pytest.warns(DeprecationWarning, match="switches="):
        check_checkpoint_manager(no_wait, runs=0, lora_ranks=(), weather=(late,))
    with pytest.warns(DeprecationWarning, match="switches="):
        assert find(save_histories(weather=(late,)), lambda events: late in events)
    with pytest.warns(DeprecationWarning, match="switches"):

        class Old(CheckpointManagerMachine):
            factory = staticmethod(no_wait)
            weather = (late,)

    assert Old.switches == (late,)


def test_a_module_of_the_kit_has_no_other_names() -> None:
    from ftsim.testing import managers, strategies

    for module in (managers, strategies):
        with pytest.raises(AttributeError, match="no attribute 'Climate'"):
            module.Climate  # noqa: B018


def test_a_row_that_was_listed_with_its_time_keeps_it() -> None:
    """A second save under its name, in whole seconds, must not move the first one behind an older row."""
    again = (
        Train(1),
        Save(True, True),
        Train(1),
        Save(True, False),
        Save(False, True),
        Save(False, True, True),
        Crash(),
    )
    assert play(no_wait, 0, again) is None


CUT_OFF = (Train(1), Save(resumable=False, promotable=True), Crash(), Promote())
BEFORE: dict[str, tuple[tuple[Event, ...], str]] = {
    "the save it came back to": ((Train(1), Save(True, True)), "on a branch that is cut off"),
    "nothing": ((Train(1), Save(True, False)), "on a branch that is cut off"),
    "an earlier save": ((Train(1), Save(False, True), Train(1), Save(True, False)), "on a branch that is cut off"),
}


@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize("promotable", BEFORE)
def test_a_branch_that_a_crash_cut_off_is_not_to_be_promoted(rank: int, promotable: str) -> None:
    before, fault = BEFORE[promotable]
    found = play(partial(NewestOfTheJob, sleep=lambda seconds: None), rank, (*before, *CUT_OFF))
    assert found is not None
    assert found.kind == "promotes wrong"
    assert fault in found.fault
    assert play(no_wait, rank, (*before, *CUT_OFF)) is None


@pytest.mark.filterwarnings("error")
def test_a_search_beside_clients_is_not_blamed_for_their_random(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client's thread uses `random` while a history is drawn; here the draw does, so that it happens every time."""
    drawn: list[float] = []

    def history(number: int) -> list[Event]:
        drawn.append(random.random() + number)
        return []

    monkeypatch.setattr(managers, "KNOWN_TO_HURT", ())
    monkeypatch.setattr(managers, "ON_EVERY_RANK", ())
    monkeypatch.setattr(managers, "save_histories", lambda **_: st.integers().map(history))
    check_checkpoint_manager(no_wait, runs=3, lora_ranks=(0,))
    assert len(drawn) == 3
