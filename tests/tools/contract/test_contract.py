"""The contract checks agree with the emulator, and notice every way in which a server differs from it."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from emulator.server import Emulator
from ftsim.cli.main import app
from ftsim.tools.contract import CHECKS, PoolStage, Report, run
from ftsim.tools.contract.creating import CreatedJob
from ftsim.tools.contract.run import VERIFIED
from ftsim.tools.contract.session import Session
from tests.doubles import BASE, DictBackend

KEY = "fw-contract-key-of-mine"


@pytest.fixture
def emu(tmp_path: Path) -> Iterator[Emulator]:
    with Emulator(DictBackend(tmp_path / "base"), api_key=KEY) as emulator:
        yield emulator


WITHOUT = {
    "checkpoints": "there is no job to list at that point",
    "accelerator seconds": "no accelerator stands behind a job",
    "what penalties count": "the backend computes without a model",
    "routes of a token": "the base model is dense",
}
"""The checks that find nothing to compare here, and why."""


def check(emu: Emulator, *, create: bool = True) -> Report:
    session = Session(emu.url, emu.api_key)
    try:
        if not create:
            return run(session)
        return run(session, stage=CreatedJob(session, BASE, poll_s=0.01), deploy=True, pool=PoolStage(session, BASE))
    finally:
        session.http.close()


def test_the_emulator_agrees_and_is_left_clean(emu: Emulator) -> None:
    found = check(emu)
    assert found.drift == []
    assert {outcome.result for outcome in found.outcomes} <= {"agrees", "skipped"}
    assert sum(outcome.result == "agrees" for outcome in found.outcomes) >= len(CHECKS) - len(WITHOUT)
    assert [job.state for job in emu.world.jobs] == ["JOB_STATE_DELETED"]
    assert len(emu.world.models) == 0
    assert {deployment.state for deployment in emu.world.deployments} == {"DELETED"}
    assert all(session.deleted for session in emu.world.sessions)
    emu.journal.assert_deleted_only_what_was_created()


@pytest.fixture(scope="module")
def agreed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    with Emulator(DictBackend(tmp_path_factory.mktemp("base")), api_key=KEY) as emulator:
        return {outcome.check: outcome.result for outcome in check(emulator).outcomes}


@pytest.mark.parametrize(
    "name", [pytest.param(one.name, marks=[pytest.mark.verified] if one.verified else []) for one in CHECKS]
)
def test_a_check_agrees_with_the_emulator(agreed: dict[str, str], name: str) -> None:
    """Marked `verified` is what also agreed with the live service."""
    assert agreed[name] == ("skipped" if name in WITHOUT else "agrees")


def test_only_checks_there_are_can_be_verified() -> None:
    assert VERIFIED.keys() <= {one.name for one in CHECKS}
    assert contract("--list").output.count("never verified") == len(CHECKS) - len(VERIFIED)


def test_without_leave_nothing_but_reads_is_sent(emu: Emulator) -> None:
    check(emu)
    emu.journal.clear()
    found = check(emu, create=False)
    assert {exchange.method for exchange in emu.journal} == {"GET"}
    assert not [exchange for exchange in emu.journal if exchange.changes]
    assert {o.result for o in found.outcomes if o.check in {c.name for c in CHECKS if c.creates}} == {"skipped"}
    rows = next(outcome for outcome in found.outcomes if outcome.check == "checkpoints")
    assert rows.result == "skipped"  # the job that was checked is deleted, and so not listed


@pytest.mark.parametrize(
    ("quirk", "value", "field"),
    [
        ("rows.omit", ["createTime"], "createTime"),
        ("rows.omit", ["promotable"], "promotable"),
        ("rows.extra_type", "CHECKPOINT_TYPE_NEW", "checkpointType"),
        ("rows.key_style", "rlorTrainerJobCheckpoints", "body.checkpoints"),
        ("accounts.listed", "two", "body.accounts"),
        ("accounts.listed", "none", "body.accounts"),
        ("errors.style", "detail", "body.code"),
        ("errors.style", "text", "body"),
        ("rpc.dedupe", False, "request ids"),
        ("save.path_style", "gs_uri", "body.path"),
        ("http.fail", 500, "status"),
        ("jobs.cancel_s", 1.0, None),
    ],
)
def test_each_difference_is_named_by_its_field(emu: Emulator, quirk: str, value: object, field: str | None) -> None:
    emu.quirks.set(quirk, value)
    found = check(emu)
    if field is None:
        assert found.drift == []
    else:
        assert any(field in drift.field for drift in found.drift), found.drift
        assert not found.agrees


def test_a_server_that_goes_away_breaks_the_checks(emu: Emulator) -> None:
    session = Session(emu.url, emu.api_key)
    with contextlib.closing(session.http):
        ask = session.http.request

        def once(*arguments: Any, **options: Any) -> Any:
            answer = ask(*arguments, **options)
            emu.stop()
            return answer

        session.http.request = once  # type: ignore[method-assign]
        found = run(session)
    assert [outcome.result for outcome in found.outcomes][:2] == ["agrees", "broken"]
    assert not found.agrees


def test_a_server_that_was_never_there_has_no_report(emu: Emulator) -> None:
    emu.stop()
    with pytest.raises(httpx.ConnectError):
        check(emu, create=False)


def test_what_was_created_is_deleted_even_when_a_check_breaks(emu: Emulator) -> None:
    emu.quirks.set("http.fail", 404, endpoint="create_session")
    assert not check(emu).agrees
    assert [job.state for job in emu.world.jobs] == ["JOB_STATE_DELETED"]


def contract(*words: str, answer: str = "") -> Result:
    return CliRunner().invoke(app, ["contract", *words], prog_name="ftsim", input=answer)


def test_the_command_writes_a_report_without_the_key(emu: Emulator, tmp_path: Path) -> None:
    emu.quirks.set("http.fail", 500, endpoint="list_models")
    result = contract("--base-url", emu.url, "--api-key", KEY, "--report", str(tmp_path / "drift"))
    assert result.exit_code == 1
    report = json.loads((tmp_path / "drift.json").read_text())
    (drift,) = report["drift"]
    assert (drift["check"], drift["field"], drift["expected"]) == ("models", "status", "200")
    text = (tmp_path / "drift.md").read_text()
    assert "| models | 1.5 | differs |" in text
    assert KEY not in text + json.dumps(report) + result.output


def test_creating_elsewhere_is_asked_first(emu: Emulator) -> None:
    on = ("--base-url", emu.url, "--api-key", KEY, "--allow-create")
    refused = contract(*on, answer="n\n")
    assert refused.exit_code == 1
    assert "billed" in refused.output
    assert len(emu.world.jobs) == 0
    assert (
        contract(
            *on,
            answer="y\n",
        ).exit_code
        == 0
    )
    assert len(emu.world.jobs) == 1


def test_the_checks_are_listed(emu: Emulator) -> None:
    lines = contract("--list").output.splitlines()
    assert len(lines) == len(CHECKS)
    assert contract("--base-url", emu.url).exit_code == 1
    with httpx.Client() as client:
        assert Session(emu.url, KEY, client=client).http is client


def test_the_emulator_with_real_models_agrees() -> None:
    result = contract("--allow-create")
    assert result.exit_code == 0, result.output


@pytest.mark.slow
def test_the_emulator_with_real_models_agrees_when_it_serves_and_on_the_pool_too() -> None:
    result = contract("--allow-create", "--allow-deployment", "--allow-pool")
    assert result.exit_code == 0, result.output
    assert "| what penalties count | 3.1 | agrees |" in result.output
