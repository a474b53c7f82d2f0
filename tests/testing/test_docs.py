"""docs/testing-kit.md: its manager has the fault it prints, its other examples run."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ftsim.testing import CheckpointManagerMachine, ManagerFault
from ftsim.testing.managers import MACHINE_RUNS, MACHINE_STEPS

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


def test_late_rows_do_not_hurt_a_patient_manager(page: dict[str, Any]) -> None:
    page["test_late_rows_too"]()


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
