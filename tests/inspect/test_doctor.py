"""`ftsim doctor` judges a listing: what rows can do, what would be taken, where a client goes wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from emulator.state.entities import Job
from ftsim.inspect.doctor import Diagnosis, judge
from ftsim.inspect.listing import parse
from tests.cli.conftest import emu, job, on
from tests.conftest import Ftsim

__all__ = ["emu", "job", "on"]  # fixtures
ROWS = Path(__file__).parents[2] / "fixtures" / "rows"


def row(name: str, kind: str, second: int, promotable: bool | None = None, owner: str = "j") -> dict[str, Any]:
    made: dict[str, Any] = {
        "name": f"accounts/a/rlorTrainerJobs/{owner}/checkpoints/{name}",
        "checkpointType": f"CHECKPOINT_TYPE_{kind}",
        "createTime": f"2026-11-01T10:00:{second:02d}.000000Z",
    }
    return made if promotable is None else made | {"promotable": promotable}


SOUND = [
    row("step-10", "TRAINING_LORA", 1, False),
    row("step-20", "TRAINING_LORA", 2, False),
    row("step-20-0a0a0a0a", "INFERENCE_LORA", 3, True),
]


def judged(rows: list[dict[str, Any]], **options: Any) -> Diagnosis:
    return judge(parse(json.dumps(rows)), **options)


def ids(found: Diagnosis) -> set[str]:
    return {trouble.entry for trouble in found.troubles}


def test_a_sound_listing_has_no_trouble_and_its_newest_rows_are_taken() -> None:
    found = judged(SOUND)
    assert found.troubles == ()
    assert (found.resume_takes, found.promote_takes) == ("step-20", "step-20-0a0a0a0a")
    assert [verdict.resumable.split(":")[0] for verdict in found.verdicts] == ["yes", "yes", "no"]
    assert [verdict.promotable.split(":")[0] for verdict in found.verdicts] == ["no", "no", "yes"]


@pytest.mark.parametrize(
    ("listing", "entries"),
    [
        ("full_with_deltas", set()),
        ("mixed_times", {"A1", "A8", "D15", "D16"}),
        ("renamed", {"A8", "D15", "D16"}),
        ("serverless", {"A13"}),
        ("two_sessions", {"A12", "D15"}),
        ("unprefixed_and_gappy", {"A14", "A5", "B3"}),
    ],
)
def test_each_stored_listing_has_the_trouble_it_was_made_for(listing: str, entries: set[str]) -> None:
    assert ids(judge(parse((ROWS / f"{listing}.json").read_text("utf-8")))) == entries


def test_a_delta_says_why_it_cannot_be_promoted() -> None:
    found = judge(parse((ROWS / "full_with_deltas.json").read_text("utf-8")))
    (delta, *_) = [verdict for verdict in found.verdicts if verdict.row.short_type == "INFERENCE_ARC_V2"]
    assert delta.promotable.startswith("no: INFERENCE_ARC_V2 is a delta")


def test_a_client_that_sorts_text_takes_another_row() -> None:
    older = row("step-1-0a0a0a0a", "INFERENCE_LORA", 1, True) | {"createTime": "2026-11-01T10:00:01Z"}
    newer = row("step-2-0a0a0a0a", "INFERENCE_LORA", 1, True) | {"createTime": "2026-11-01T10:00:01.500000Z"}
    found = judged([older, newer])
    assert (found.promote_takes, found.text_takes) == ("step-2-0a0a0a0a", "step-1-0a0a0a0a")
    assert "A1" in ids(found)


def test_rows_of_a_branch_that_a_resume_left_are_cut_off() -> None:
    again = [row("step-11", "TRAINING_LORA", 4, False), row("step-12-0b0b0b0b", "INFERENCE_LORA", 5, True)]
    found = judged([*SOUND, *again])
    cut = {verdict.row.id for verdict in found.verdicts if verdict.cut_off}
    assert cut == {"step-20", "step-20-0a0a0a0a"}
    assert [verdict.branch for verdict in found.verdicts] == [1, 1, 1, 2, 2]
    assert ids(found) == {"D15"}


def test_a_state_whose_name_cannot_be_loaded_is_not_what_resume_takes() -> None:
    found = judged([*SOUND, row("step_30", "TRAINING_LORA", 9, False)])
    assert found.resume_takes == "step-20"
    assert "B3" in ids(found)


def test_a_clock_ahead_of_the_reader_is_told() -> None:
    assert "A4" in ids(judged(SOUND, now=1_700_000_000.0))
    assert judged(SOUND, now=2_000_000_000.0).troubles == ()


def test_a_row_that_is_listed_twice_is_told() -> None:
    assert "A7" in ids(judged([*SOUND, SOUND[-1]]))


def test_the_command_judges_a_file(ftsim: Ftsim, tmp_path: Path) -> None:
    saved = tmp_path / "rows.json"
    saved.write_text(json.dumps({"checkpoints": SOUND}))
    done = ftsim("doctor", "--from", str(saved))
    assert (done.exit_code, done.output.splitlines()[-1]) == (0, "sound")
    saved.write_text(json.dumps({"checkpoints": SOUND, "nextPageToken": "more"}))
    done = ftsim("doctor", "--from", str(saved), "--json")
    told = json.loads(done.output)
    assert done.exit_code == 1
    assert [trouble["entry"] for trouble in told["troubles"]] == ["A7"]
    assert told["takes"]["promote"] == "step-20-0a0a0a0a"
    saved.write_text("not a listing")
    assert ftsim("doctor", "--from", str(saved)).exit_code == 2
    assert ftsim("doctor", "--from", str(tmp_path / "none.json")).exit_code == 2


def test_the_command_judges_a_job_of_a_running_service(ftsim: Ftsim, on: list[str], job: Job) -> None:
    done = ftsim("doctor", "--job", "j1", *on)
    assert (done.exit_code, done.output.splitlines()[-1]) == (0, "sound")
    assert "promote takes  step-10-0a0a0a0a" in done.output


def test_the_command_finds_a_message(ftsim: Ftsim) -> None:
    done = ftsim("doctor", "ERROR: Trainer job j stuck in JOB_STATE_DELETED")
    assert done.exit_code == 0
    assert done.output.startswith("F4  reconnect to a tombstone")
    assert "ftsim reproduce F4" in done.output
    found = json.loads(ftsim("doctor", "Checksum mismatch", "--json").output)["matches"]
    assert [match["id"] for match in found] == ["E10", "E11"]
    assert ftsim("doctor", "all is well").exit_code == 1


def test_the_command_wants_one_thing_to_judge(ftsim: Ftsim) -> None:
    assert ftsim("doctor", "--state-dir", "no-such-folder").exit_code == 2
    assert ftsim("doctor", "a message", "--job", "j1").exit_code == 2


def test_a_job_that_is_not_there_cannot_be_judged(ftsim: Ftsim, on: list[str]) -> None:
    assert ftsim("doctor", "--job", "nobody", *on).exit_code == 2
