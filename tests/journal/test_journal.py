"""An emulator remembers what it was asked."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from emulator.core.errors import InvalidArgument
from emulator.journal import file as journal_file
from emulator.journal.journal import Event, Journal, groups
from emulator.platform.jobs.spec import JobSpec
from emulator.server import Emulator
from ftsim.cli.main import app
from tests.doubles import BASE, DictBackend
from tests.http.gateway.conftest import Wire, batch

JOBS = "/v1/accounts/local/rlorTrainerJobs"
JOB = "accounts/local/rlorTrainerJobs/j1"


@pytest.fixture
def emu(tmp_path: Path) -> Iterator[Emulator]:
    with Emulator(DictBackend(tmp_path / "base"), api_key="fw-secret-of-mine") as emulator:
        yield emulator


@pytest.fixture
def http(emu: Emulator) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=emu.url, headers={"X-Api-Key": emu.api_key}) as client:
        yield client


def make_job(http: httpx.Client, job_id: str = "j1") -> None:
    body = {"trainingConfig": {"baseModel": BASE}}
    assert http.post(JOBS, params={"rlorTrainerJobId": job_id}, json=body).status_code == 200


def lines(emu: Emulator) -> list[bytes]:
    return list(journal_file.write(emu.journal, seed=emu.world.ids.seed, account=emu.account))


def test_an_exchange_knows_what_it_changed_even_when_a_worker_did(emu: Emulator, http: httpx.Client) -> None:
    make_job(http)
    wire = Wire(http)
    wire.run("optim_step", 1)
    wire.run("save_weights", 2, path="step-1")
    (created,) = emu.journal.of("create_job")
    assert ("created", "job", JOB) in created.changes
    (saved,) = emu.journal.of("save_weights")
    assert ("created", "checkpoint", f"{JOB}/checkpoints/step-1") in saved.changes
    assert not [change for get in emu.journal.of("retrieve_future") for change in get.changes]
    http.delete(f"{JOBS}/j1")
    assert ("deleted", "job", JOB) in emu.journal.of("delete_job")[0].changes


def test_a_failed_request_changed_nothing(emu: Emulator, http: httpx.Client) -> None:
    make_job(http)
    assert http.post(JOBS, params={"rlorTrainerJobId": "j1"}, json={"trainingConfig": {"baseModel": BASE}}).is_error
    assert emu.journal.of("create_job")[1].changes == []


def test_an_exchange_knows_the_quirk_that_touched_it(emu: Emulator, http: httpx.Client) -> None:
    make_job(http)
    emu.quirks.set("http.fail", 503, times=1, endpoint="get_job")
    assert [http.get(f"{JOBS}/j1").status_code for _ in range(2)] == [503, 200]
    struck, spared = emu.journal.of("get_job")
    assert struck.quirks == [("http.fail", 503)]
    assert spared.quirks == []
    (event,) = [entry for entry in emu.journal.entries if isinstance(entry, Event)]
    assert (event.what, event.detail["name"], event.detail["times"]) == ("quirk", "http.fail", 1)


def test_exchanges_are_timed_and_numbered(emu: Emulator, http: httpx.Client) -> None:
    make_job(http)
    emu.quirks.set("http.delay_s", 0.1, endpoint="get_job")
    http.get(f"{JOBS}/j1")
    one, other = emu.journal
    while not other.ended:  # the client may have its answer first
        time.sleep(0.001)
    assert other.seconds >= 0.1
    assert other.at > one.at
    assert one.began < one.told < one.ended < other.began < other.told < other.ended


def test_assertions_say_what_was_called_instead(emu: Emulator, http: httpx.Client) -> None:
    make_job(http)
    journal = emu.journal
    journal.assert_called("create_job")
    journal.assert_called("create_job", times=1, status=200)
    journal.assert_called("create_job", trainingConfig={"baseModel": BASE})
    journal.assert_not_called("promote")
    with pytest.raises(AssertionError, match=r"promote was called 0 times, not 1 times.*create_job ×1"):
        journal.assert_called("promote", times=1)
    with pytest.raises(AssertionError, match="at least once"):
        journal.assert_called("create_job", status=500)
    with pytest.raises(AssertionError):
        journal.assert_called("create_job", displayName="other")
    with pytest.raises(AssertionError, match="not 0 times"):
        journal.assert_not_called("create_job")


def test_nothing_was_deleted_that_the_test_did_not_create(emu: Emulator, http: httpx.Client) -> None:
    make_job(http, "not-mine")
    emu.journal.clear()
    make_job(http, "mine")
    http.delete(f"{JOBS}/mine")
    emu.journal.assert_deleted_only_what_was_created()
    http.delete(f"{JOBS}/not-mine")
    with pytest.raises(AssertionError, match="not-mine, by delete_job"):
        emu.journal.assert_deleted_only_what_was_created()


def test_what_is_done_by_hand_is_an_event(emu: Emulator) -> None:
    emu.platform.jobs.create("local", JobSpec(base_model=BASE), "j1")
    (event,) = emu.journal.entries
    assert isinstance(event, Event)
    assert [change["name"] for change in event.detail["changes"]] == [JOB]
    assert len(emu.journal) == 0


def test_what_was_dropped_weighs_nothing_any_more(emu: Emulator) -> None:
    journal = Journal(emu.clock, size=1, budget=10**9)
    early = journal.open("GET", "/a", "")
    late = journal.open("GET", "/b", "")
    journal.answered(early, b"x" * 5000)
    journal.answered(late, b"y" * 100)
    for exchange in (early, late):
        journal.close(exchange)
    assert journal.entries == [late]
    assert journal._bytes == 1000 + 100
    journal.clear()
    journal.answered(late, b"z" * 100)
    assert journal._bytes == 0


@pytest.mark.parametrize(("size", "budget", "kept"), [(3, 10**9, 3), (10**9, 2500, 2)])
def test_the_newest_stay_within_the_budget(emu: Emulator, size: int, budget: int, kept: int) -> None:
    journal = Journal(emu.clock, size=size, budget=budget)
    for number in range(10):
        journal.close(journal.open("GET", f"/{number}", ""))
    assert [exchange.path for exchange in journal] == [f"/{number}" for number in range(10 - kept, 10)]
    assert not journal.complete
    assert journal.dropped == 10 - kept


def test_a_body_over_the_limit_is_cut_and_counted(emu: Emulator) -> None:
    journal = Journal(emu.clock, body_limit=10)
    exchange = journal.open("POST", "/", "")
    for _ in range(3):
        journal.asked(exchange, b"1234567")
    assert (exchange.request, exchange.request_size, exchange.whole) == (b"1234567123", 21, False)


def test_equal_failures_in_a_row_are_shown_once(emu: Emulator, http: httpx.Client, tmp_path: Path) -> None:
    asked = ["nowhere", "nowhere", "nowhere", "elsewhere", "nowhere"]
    for name in asked:
        http.get(f"{JOBS}/{name}")
    for _ in range(2):
        http.get(JOBS)
    assert [len(group) for group in groups(emu.journal)] == [3, 1, 1, 1, 1]
    assert len(emu.journal.of("get_job")) == len(asked)
    (tmp_path / "journal.jsonl").write_bytes(b"".join(lines(emu)))
    shown = CliRunner().invoke(app, ["journal", str(tmp_path / "journal.jsonl"), "--tail", "5"]).stdout.splitlines()
    assert len(shown) == 5
    assert re.search(r"404 .*nowhere  ×3, until \d\d:\d\d:\d\d", shown[0])


def test_a_journal_survives_its_file(emu: Emulator, http: httpx.Client) -> None:
    make_job(http)
    emu.quirks.set("http.fail", 503, times=1)
    http.get(f"{JOBS}/j1")
    http.post("/v1/completions", content=b"\xff\xfe")
    saved = journal_file.read(lines(emu))
    assert saved.header["complete"]
    assert saved.header["versions"]["python"]
    for mine, theirs in zip(emu.journal, saved.exchanges, strict=True):
        for name in ("method", "path", "request", "response", "changes", "quirks", "account", "began", "ended"):
            assert getattr(mine, name) == getattr(theirs, name)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda kept: [],
        lambda kept: [b"not json\n"],
        lambda kept: [b'{"kind": "journal", "format": 99}\n'],
        lambda kept: [*kept, b'{"kind": "exchange"}\n'],
        lambda kept: [*kept, b"[]\n"],
        lambda kept: [kept[0], kept[1].replace(b'"status":200', b'"status":"x"')],
        lambda kept: [*kept, b" " * 17_000_000],
    ],
)
def test_a_damaged_journal_is_refused_with_its_line(emu: Emulator, http: httpx.Client, spoil: object) -> None:
    make_job(http)
    with pytest.raises(InvalidArgument, match="journal"):
        journal_file.read(spoil(lines(emu)))  # type: ignore[operator]


def test_no_key_reaches_the_journal(emu: Emulator, http: httpx.Client) -> None:
    make_job(http)
    gateway = f"/training/v1/rlorTrainerJobs/local/j1/api/v1/telemetry?api_key={emu.api_key}"
    http.post(gateway, json={"note": f"my key is {emu.api_key}", "other": "Bearer abc.def", "api_key": "q" * 30})
    http.post(gateway, json={"note": "fw_1234567890abcdefghij"})
    http.post("/training/v1/rlorTrainerJobs/local/j1/api/v1/auth/token")
    file = b"".join(lines(emu)).decode()
    for secret in (emu.api_key, "abc.def", "q" * 30, "fw_1234567890abcdefghij", "eyJ"):
        assert secret not in file
    assert emu.api_key not in repr(list(emu.journal))
    assert file.count("[hidden]") >= 5


def test_a_stopped_emulator_leaves_its_newest_journals(tmp_path: Path) -> None:
    for _ in range(10):
        with Emulator(DictBackend(tmp_path / "base"), state_dir=tmp_path / "state") as emulator:
            httpx.get(f"{emulator.url}/v1/accounts", headers={"X-Api-Key": emulator.api_key})
    left = sorted(path.name for path in (tmp_path / "state" / "journals").iterdir())
    assert left == [f"{boot:06d}.jsonl" for boot in range(2, 10)]


def ftsim(*words: str) -> str:
    result = CliRunner().invoke(app, ["journal", *words], prog_name="ftsim")
    assert result.exit_code == 0, result.output
    return result.output


def test_the_command_filters_and_exports(emu: Emulator, http: httpx.Client, tmp_path: Path) -> None:
    on = ["--url", emu.url, "--api-key", emu.api_key]
    make_job(http)
    wire = Wire(http)
    wire.run("forward_backward", 1, forward_backward_input=batch(1, 2))
    emu.quirks.set("http.fail", 503, times=1, endpoint="get_job")
    http.get(f"{JOBS}/j1")
    http.get(f"{JOBS}/none", params={"signature": "abc"})
    shown = ftsim(*on)
    assert f"created job {JOB}" in shown
    assert "by hand: quirk http.fail=503 endpoint=get_job" in shown
    assert "quirk http.fail=503" in ftsim(*on, "--quirked")
    assert ftsim(*on, "--status", "4xx").count("\n") == 1
    assert re.match(r"\d\d:\d\d:\d\d\.\d{3}  200 ", ftsim(*on, "--endpoint", "create_job", "--tail", "1"))
    assert [one["path"] for one in json.loads(ftsim(*on, "--json", "--method", "get", "--path", "none"))] == [
        f"{JOBS}/none"
    ]
    ftsim(*on, "--har", str(tmp_path / "a.har"), "--save", str(tmp_path / "j.jsonl"))
    archive = json.loads((tmp_path / "a.har").read_text())["log"]
    assert archive["version"] == "1.2"
    assert len(archive["entries"]) == len(emu.journal)
    last = archive["entries"][-1]
    assert last["request"]["url"].endswith("/none?signature=[hidden]")
    assert last["response"]["status"] == 404
    assert json.loads(archive["entries"][0]["request"]["postData"]["text"]) == {"trainingConfig": {"baseModel": BASE}}
    assert emu.api_key not in (tmp_path / "a.har").read_text() + (tmp_path / "j.jsonl").read_text()
    assert ftsim(str(tmp_path / "j.jsonl")).count("\n") == shown.count("\n")


def test_the_command_reads_what_a_stopped_emulator_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIREWORKS_BASE_URL", "http://127.0.0.1:9")  # a folder named by hand goes before it
    with Emulator(DictBackend(tmp_path / "base"), state_dir=tmp_path / "state") as emulator:
        httpx.get(f"{emulator.url}/v1/accounts", headers={"X-Api-Key": emulator.api_key})
    assert "/v1/accounts" in ftsim("--state-dir", str(tmp_path / "state"))
    empty = CliRunner().invoke(app, ["journal", "--state-dir", str(tmp_path / "none")])
    assert empty.exit_code == 1
