"""Every scenario of `ftsim.scenarios` reproduces what it describes."""

import pytest

from ftsim.scenarios import Scenario, find, scenarios


@pytest.mark.parametrize("scenario", scenarios(), ids=lambda scenario: scenario.id)
def test_the_failure_is_reproduced_and_survived(scenario: Scenario) -> None:
    report = scenario.run()
    assert report.sees, "a report says what the user sees"
    assert report.right, "a report says what a right client does"
    assert all(isinstance(line, str) and line for line in (*report.sees, *report.right))


def test_an_id_is_found_in_any_spelling() -> None:
    assert all(find(scenario.id.lower()) is scenario for scenario in scenarios())
    assert find("a01") is find("A1") is not None
    assert find("Z1") is None


def test_ids_are_those_of_the_modules() -> None:
    for scenario in scenarios():
        assert scenario.module.__name__.endswith(f"{scenario.id[0].lower()}{int(scenario.id[1:]):02d}")
