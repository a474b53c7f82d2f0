"""docs/testing-kit.md: its manager has the fault it prints, its other examples run."""

import re
from pathlib import Path
from typing import Any

import pytest

from ftsim.testing import CheckpointManagerMachine, ManagerFault

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


def test_the_other_examples_are_what_they_say(page: dict[str, Any]) -> None:
    assert issubclass(page["Mine"], CheckpointManagerMachine)
    page["test_my_newest_row_is_the_last"]()
    assert {mark.args[0] for mark in page["test_on_a_bad_day"].pytestmark} == {"rows.time_precision", "http.fail"}
