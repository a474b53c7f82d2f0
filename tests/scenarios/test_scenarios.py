"""Every scenario of `ftsim.scenarios` reproduces what it describes."""

import sys
from pathlib import Path

import pytest

import ftsim.scenarios
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


def test_an_id_is_reproduced_by_one_function_and_one_alone() -> None:
    assert len({scenario.id for scenario in scenarios()}) == len(scenarios())
    assert len({scenario.reproduce.__name__ for scenario in scenarios()}) == len(scenarios())


def test_scenarios_are_in_the_order_of_the_catalogue() -> None:
    ids = [(scenario.id[0], int(scenario.id[1:])) for scenario in scenarios()]
    assert ids == sorted(ids)


def test_a_scenario_is_added_by_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "made_up.py").write_text(
        "from ftsim.scenarios import scenario\n"
        "from ftsim.scenarios.support.report import Report\n\n\n"
        '@scenario("H99", "a made-up failure")\n'
        "def something_made_up(stage):\n"
        '    return Report(sees=["it"], right=["nothing"])\n'
    )
    monkeypatch.setattr(ftsim.scenarios, "__path__", [*ftsim.scenarios.__path__, str(tmp_path)])
    known = scenarios()
    scenarios.cache_clear()
    try:
        assert [scenario.id for scenario in scenarios()] == [*(scenario.id for scenario in known), "H99"]
        added = find("h99")
        assert added is not None
        assert added.title == "a made-up failure"
        assert added.run().sees == ["it"]
    finally:
        scenarios.cache_clear()
        sys.modules.pop("ftsim.scenarios.made_up", None)
