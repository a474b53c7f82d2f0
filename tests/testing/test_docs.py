"""docs/testing-kit.md: its manager has the fault it prints, its other examples run."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from ftsim.testing import CheckpointManagerMachine, ManagerFault
from ftsim.testing.histories import LATE_ROWS
from ftsim.testing.managers import MACHINE_RUNS, MACHINE_STEPS
from ftsim.testing.rules import chosen
from ftsim.testing.search import play
from ftsim.testing.strategies import Crash, Promote, Save, Train
from ftsim.training.checkpoints.manager import TrainingCheckpoints

PAGE = (Path(__file__).parents[2] / "docs" / "testing-kit.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.S)
(PRINTED,) = re.findall(r"```text\n(.*?)\n```", PAGE, flags=re.S)


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """The names that the page's examples define, in the order of the page."""
    names: dict[str, Any] = {}
    for block in BLOCKS:
        exec(compile(block, "docs/testing-kit.md", "exec"), names)
    return names


def test_the_naive_manager_goes_wrong_as_printed(page: dict[str, Any]) -> None:
    with pytest.raises(ManagerFault) as caught:
        page["test_my_checkpoints_never_lose_a_run"]()
    assert str(caught.value) == PRINTED


@pytest.mark.slow
def test_late_rows_do_not_hurt_a_patient_manager(page: dict[str, Any]) -> None:
    page["test_late_rows_too"]()


def test_late_rows_do_not_hurt_a_patient_manager_in_two_histories() -> None:
    """The page's test, which searches, in two that it would find."""
    rules = chosen(("newest", "visible", "late"), ())
    for last in ((Crash(), Train(1)), (Promote(),)):
        history = (Train(1), Save(True, True), LATE_ROWS, Train(1), Save(True, True), *last)
        assert play(TrainingCheckpoints, 0, history, rules) is None


def test_the_machine_of_the_page_finds_a_fault(page: dict[str, Any]) -> None:
    """In few runs; that its own bounds are enough, from an empty folder, is a test that takes longer."""
    few = settings(
        page["Mine"].TestCase.settings, max_examples=20, stateful_step_count=8, derandomize=True, database=None
    )
    with pytest.raises(ManagerFault, match="The history of the run:"):
        run_state_machine_as_test(page["Mine"], settings=few)


@pytest.mark.slow
def test_the_machine_finds_the_fault_from_an_empty_folder(tmp_path: Path) -> None:
    """By nothing but what the page says, and by its own bounds: a search without any would not end in this time."""
    said = [block for block in BLOCKS if "class NaiveCheckpoints" in block or "class Mine(" in block]
    (tmp_path / "test_mine.py").write_text("\n".join(said))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0", "test_mine.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "ManagerFault" in done.stdout
    assert "The history of the run:" in done.stdout


def test_a_machine_is_bounded_until_its_settings_say_otherwise(page: dict[str, Any]) -> None:
    class Unbidden(CheckpointManagerMachine):
        factory = staticmethod(page["NaiveCheckpoints"])

    found, raised = Unbidden.TestCase.settings, page["TestMine"].settings
    assert (found.max_examples, found.stateful_step_count) == (MACHINE_RUNS, MACHINE_STEPS)
    assert (raised.max_examples, raised.stateful_step_count, raised.deadline) == (500, 30, None)


def test_the_other_examples_are_what_they_say(page: dict[str, Any]) -> None:
    assert issubclass(page["Mine"], CheckpointManagerMachine)
    page["test_my_newest_row_is_the_last"]()
    assert {mark.args[0] for mark in page["test_on_a_bad_day"].pytestmark} == {"rows.time_precision", "http.fail"}
