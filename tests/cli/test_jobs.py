"""Jobs by every name that a person has for them, and what a running emulator can be told, by the command."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from emulator.platform.jobs.spec import JobSpec
from emulator.server import Emulator
from emulator.state.entities import Job, Session
from ftsim.training.trainers import job_id_for
from tests.cli.conftest import RUN, save
from tests.conftest import Ftsim
from tests.doubles import BASE, write_training


@pytest.fixture
def run(emu: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """The job of a recipe that ran in ./runs/first, newer than every other."""
    (tmp_path / "runs" / "first").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    emu.clock.advance(60)
    spec = JobSpec(base_model=BASE, lora_rank=8, display_name="first")
    made = emu.platform.jobs.create(emu.account, spec, job_id_for("sft", "runs/first"))
    save(emu, made, "step-7", lambda folder: write_training(folder, rank=8), 7, "state")
    return made


def test_jobs_shows_jobs_and_sessions_oldest_first(
    ftsim: Ftsim, on: list[str], job: Job, session: Session, run: Job
) -> None:
    heading, *lines = ftsim("jobs", *on).stdout.splitlines()
    assert heading.split() == ["job", "state", "base", "rank", "step", "rows", "promotable", "log_path", "age"]
    found = [line.split() for line in lines]
    assert [line[0] for line in found] == ["j1", session.id, run.id]
    assert found[0][1:7] == ["RUNNING", BASE.rsplit("/", 1)[-1], "0", "20", "3", "1"]
    assert found[2][3:8] == ["8", "7", "1", "0", "runs/first"]


def test_jobs_as_json_has_every_field(ftsim: Ftsim, on: list[str], run: Job) -> None:
    (told,) = json.loads(ftsim("jobs", "--json", *on).stdout)["jobs"]
    assert told.pop("age_s") >= 0
    assert told == {
        "id": run.id,
        "name": run.name,
        "state": "RUNNING",
        "base_model": BASE,
        "lora_rank": 8,
        "display_name": "first",
        "log_path": "runs/first",
        "step": 7,
        "rows": 1,
        "promotable": 0,
    }


def test_a_job_tells_how_its_trainer_computes(
    ftsim: Ftsim, on: list[str], run: Job, emu: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "computes" not in ftsim("job", run.id, *on).stdout
    chosen = {BASE: "bfloat16,checkpointing"}
    monkeypatch.setattr(emu.platform.backend, "computes", chosen.__getitem__)
    assert "computes      bfloat16,checkpointing" in ftsim("job", run.id, *on).stdout.splitlines()
    assert json.loads(ftsim("job", run.id, "--json", *on).stdout)["computes"] == "bfloat16,checkpointing"


def test_without_jobs_it_says_how_to_make_one(ftsim: Ftsim, on: list[str]) -> None:
    assert "no jobs yet" in ftsim("jobs", *on).stdout
    done = ftsim("checkpoints", *on)
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert "there is no job and no session" in done.stderr


@pytest.mark.parametrize("how", ["id", "prefix", "display name", "log_path", "full name", "newest"])
@pytest.mark.parametrize("command", ["checkpoints", "job", "explain", "doctor", "preempt"])
def test_a_job_is_found_by_every_name_that_a_person_has_for_it(
    ftsim: Ftsim, on: list[str], job: Job, run: Job, how: str, command: str, emu: Emulator
) -> None:
    names = {
        "id": [run.id],
        "prefix": [run.id[:9]],
        "display name": ["first"],
        "log_path": ["./runs/first/"],
        "full name": [run.name],
        "newest": [],
    }
    words = names[how]
    if command == "explain":
        words = ["step-7", *(["--job", *words] if words else [])]
    if command == "doctor":
        words = ["--job", *words] if words else []
    done = ftsim(command, *words, "--json", *on)
    assert done.exit_code == (1 if command == "doctor" else 0), done.stderr  # it has no row to promote
    told = json.loads(done.stdout)
    if command == "preempt":
        assert emu.world.jobs.get(run.name) is not None
        assert told["name"] == run.name
    else:
        row = told["row"] if command == "explain" else told["rows" if command == "doctor" else "checkpoints"][0]
        assert row["id"] == "step-7"


def test_promote_takes_the_base_model_of_the_job_it_finds(ftsim: Ftsim, on: list[str], lora_job: Job) -> None:
    done = ftsim("promote", "--output-model-id", "made", *on)
    assert done.exit_code == 0, done.stderr
    assert "made" in ftsim("models", "list", *on).stdout


def test_a_beginning_that_several_have_is_not_guessed(ftsim: Ftsim, on: list[str], job: Job, lora_job: Job) -> None:
    done = ftsim("checkpoints", "j", *on)
    assert done.exit_code == 1
    assert "'j' may be any of 2" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_log_path_of_no_job_is_said_to_be_one(ftsim: Ftsim, on: list[str], job: Job, tmp_path: Path) -> None:
    assert "no job of a recipe has the log_path" in ftsim("checkpoints", str(tmp_path), *on).stderr


def test_a_job_shows_what_can_be_done_next(ftsim: Ftsim, on: list[str], job: Job, session: Session) -> None:
    told = ftsim("job", "j1", *on).stdout
    assert "ftsim promote --job-id j1" in told
    assert "step-20-0a0a0a0a" in told
    assert f"{RUN}-step-3" in ftsim("job", session.id, *on).stdout


def test_quirks_are_turned_on_listed_and_turned_off(ftsim: Ftsim, on: list[str], emu: Emulator, job: Job) -> None:
    assert ftsim("quirk", "list", *on).stdout == "no quirk is on\n"
    done = ftsim("quirk", "on", "http.fail=503@endpoint=list_jobs,times=2", "rows.visible_after_s=8", *on)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines()[1].split() == ["http.fail", "503", "endpoint=list_jobs", "2", "-"]
    assert [setting.name for setting in emu.quirks.active()] == ["http.fail", "rows.visible_after_s"]
    left = json.loads(ftsim("quirk", "off", "http.fail", "--json", *on).stdout)["active"]
    assert [one["name"] for one in left] == ["rows.visible_after_s"]
    assert ftsim("quirk", "off", *on).stdout == "no quirk is on\n"
    assert not emu.quirks.active()
    assert any(
        line.startswith("rows.visible_after_s ") for line in ftsim("quirk", "list", "--all", *on).stdout.splitlines()
    )


def test_a_quirk_that_is_none_names_the_nearest(emu: Emulator, on: list[str]) -> None:
    for words in (["on", "rows.visible_after=8"], ["off", "rows.visible_after"]):
        command = [sys.executable, "-m", "ftsim", "quirk", *words, *on]
        done = subprocess.run(command, capture_output=True, text=True)
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
        assert "rows.visible_after_s" in done.stderr


def test_the_clock_is_shown_and_moved(ftsim: Ftsim, on: list[str], emu: Emulator) -> None:
    before = emu.clock.now()
    told = ftsim("clock", "3600", *on).stdout.strip()
    assert emu.clock.now() - before >= 3_600_000_000
    assert told.startswith(json.loads(ftsim("clock", "--json", *on).stdout)["time"][:13])


def test_a_preempted_job_says_its_state(ftsim: Ftsim, on: list[str], emu: Emulator, job: Job) -> None:
    told = ftsim("preempt", "j1", *on).stdout
    found = emu.world.jobs.get(job.name)
    assert found is not None
    assert told == f"{job.name}: {found.state}\n"
    assert not found.running


LISTINGS = (
    ["jobs"],
    ["checkpoints", "j1"],
    ["job", "j1"],
    ["explain", "j1:step-10"],
    ["doctor", "--job", "j1"],
    ["models", "list", "--all"],
)


@pytest.mark.parametrize("words", LISTINGS)
def test_without_a_terminal_nothing_is_wrapped_and_nothing_trails(
    emu: Emulator, on: list[str], job: Job, words: list[str]
) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FTSIM_", "FIREWORKS_"))}
    command = [sys.executable, "-m", "ftsim", *words, *on]
    wide, narrow = (
        subprocess.run(command, capture_output=True, text=True, env={**kept, "COLUMNS": columns}).stdout.splitlines()
        for columns in ("400", "40")
    )
    assert len(wide) == len(narrow) > 1
    assert all(line == line.rstrip() for line in wide + narrow)


def test_sessions_are_ended_and_an_expired_one_is_shown(ftsim: Ftsim, on: list[str], emu: Emulator) -> None:
    first, second = (emu.platform.sessions.create(emu.account) for _ in range(2))
    emu.platform.sessions.expire(first, "(gone)")
    states = {one["id"]: one["state"] for one in json.loads(ftsim("jobs", "--json", *on).stdout)["jobs"]}
    assert states == {first.id: "EXPIRED", second.id: "READY"}
    assert ftsim("end", second.id, *on).stdout == f"{second.name}\n"
    assert "there is no training session" in ftsim("end", "ts-none", *on).output
    assert json.loads(ftsim("end", "--json", *on).stdout) == {"ended": [first.name]}
    assert ftsim("end", *on).stdout == "there is no session\n"
