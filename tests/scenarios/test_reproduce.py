"""`ftsim reproduce`, and what a scenario says when the world is not as it claims."""

import json
from collections.abc import Callable

import pytest
from typer.testing import CliRunner

import ftsim.scenarios
from ftsim.cli.main import app
from ftsim.scenarios import Scenario, attempt
from ftsim.scenarios.support.report import Report, ScenarioFailed, claim, refusal, still_upstream
from ftsim.scenarios.support.stage import Stage

run = CliRunner().invoke


def scenario(act: Callable[[Stage], Report]) -> Scenario:
    return ftsim.scenarios.scenario("Z1", "a made-up failure", upstream="fireworks-ai 1.0")(act)


def test_one_failure_is_shown_from_all_sides() -> None:
    shown = run(app, ["reproduce", "a16"])
    assert shown.exit_code == 0
    for heading in ("A16: ", "known upstream in", "What the user sees", "The exchanges", "What a right client does"):
        assert heading in shown.stdout


def test_the_same_comes_as_json() -> None:
    (record,) = json.loads(run(app, ["reproduce", "A16", "--json"]).stdout)
    assert (record["id"], record["reproduced"], record["error"]) == ("A16", True, "")
    assert record["exchanges"][0]["status"] == 404
    assert record["sees"]
    assert record["right"]


def test_the_list_names_every_scenario() -> None:
    lines = run(app, ["reproduce", "--list"]).stdout.splitlines()
    assert len(lines) == len(ftsim.scenarios.scenarios())
    assert {item["id"] for item in json.loads(run(app, ["reproduce", "--list", "--json"]).stdout)} == {
        line.split()[0] for line in lines
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["Z9"], "no such entry"), ([], "say what to reproduce"), (["D"], "no such entry")],
)
def test_what_cannot_be_reproduced_is_said(arguments: list[str], said: str) -> None:
    refused = run(app, ["reproduce", *arguments])
    assert refused.exit_code == 2
    assert said in refused.stderr


def test_a_failure_that_does_not_come_about_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def reproduce(stage: Stage) -> Report:
        claim(len(stage.exchanges()) > 0, "nothing was asked")
        return Report([], [])

    made_up = scenario(reproduce)
    monkeypatch.setattr(ftsim.scenarios, "scenarios", lambda: (made_up,))
    shown = run(app, ["reproduce", "--all"])
    assert shown.exit_code == 1
    assert "FAIL" in shown.stdout
    assert "nothing was asked" in shown.stdout
    assert "0 of 1 reproduced" in shown.stdout
    assert "Z1" in shown.stderr
    single = run(app, ["reproduce", "--json", "--all"])
    assert json.loads(single.stdout)[0]["reproduced"] is False


def test_a_client_that_was_mended_fails_its_scenario() -> None:
    def reproduce(_stage: Stage) -> Report:
        still_upstream("fireworks-ai 1.0", False, "two is three")
        return Report([], [])

    outcome = attempt(scenario(reproduce))
    assert "known upstream in fireworks-ai 1.0" in outcome.error
    assert "two is three" in outcome.error


def test_a_call_that_should_be_refused_and_is_not() -> None:
    with pytest.raises(ScenarioFailed, match="should have been refused"):
        refusal(len, "")
    assert isinstance(refusal(int, "x"), ValueError)
