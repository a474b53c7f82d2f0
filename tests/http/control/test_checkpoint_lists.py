"""Checkpoint rows as clients see them (WIRE 1.9, 5.3, 5.4; FAILURES A)."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fireworks.training.sdk import FireworksClient

from emulator.core.clock import parse_rfc3339
from emulator.core.kinds import CheckpointKind
from emulator.platform.jobs.spec import JobSpec
from emulator.server import Emulator
from emulator.state.entities import Checkpoint, Job, Session
from tests.doubles import BASE, DictBackend, write_adapter, write_base, write_delta, write_training
from tests.http.control.conftest import keep

NewJob = Callable[..., Job]
Save = Callable[..., Checkpoint]
ROWS = "/v1/accounts/acct1/rlorTrainerJobs/j1/checkpoints"


@pytest.mark.parametrize(
    ("write", "rank", "kind", "promotable"),
    [
        (write_training, 0, "CHECKPOINT_TYPE_TRAINING", False),
        (lambda folder: write_training(folder, rank=8), 8, "CHECKPOINT_TYPE_TRAINING_LORA", False),
        (write_base, 0, "CHECKPOINT_TYPE_INFERENCE_BASE", True),
        (write_adapter, 8, "CHECKPOINT_TYPE_INFERENCE_LORA", True),
        (lambda folder: write_delta(folder, [0.0] * 4, [1.0] * 4), 0, "CHECKPOINT_TYPE_INFERENCE_ARC_V2", False),
    ],
    ids=["training", "training_lora", "base", "lora", "arc_v2"],
)
def test_a_row_tells_what_the_blob_is(
    client: FireworksClient, new_job: NewJob, save: Save, write: Any, rank: int, kind: str, promotable: bool
) -> None:
    before = time.time_ns() // 1000
    save(new_job(lora_rank=rank), "step-1", write)
    (row,) = client.list_checkpoints("j1")
    assert row["name"] == "accounts/acct1/rlorTrainerJobs/j1/checkpoints/step-1"
    assert (row["checkpointType"], row["promotable"]) == (kind, promotable)
    assert len(row["createTime"]) == len("2026-08-01T10:00:00.123456Z")
    assert parse_rfc3339(row["createTime"]) >= before


def test_rows_come_oldest_first_page_by_page(
    client: FireworksClient, http: httpx.Client, new_job: NewJob, save: Save
) -> None:
    job = new_job()
    names = [f"step-{number}" for number in (3, 1, 2, 5, 4)]
    for name in names:
        save(job, name, write_training)
    assert [row["name"].rsplit("/", 1)[-1] for row in client.list_checkpoints("j1", page_size=2)] == names
    first = http.get(ROWS, params={"pageSize": 3}).json()
    second = http.get(ROWS, params={"pageSize": 3, "pageToken": first["nextPageToken"]}).json()
    assert [len(first["checkpoints"]), len(second["checkpoints"])] == [3, 2]
    assert second["nextPageToken"] == ""


def test_a_row_saved_between_two_pages_is_neither_lost_nor_doubled(
    http: httpx.Client, new_job: NewJob, save: Save
) -> None:
    job = new_job()
    save(job, "a", write_base)
    save(job, "b", write_base)
    first = http.get(ROWS, params={"pageSize": 1}).json()
    save(job, "a", write_base)  # a sampler save replaces its name: the row is new
    rest = http.get(ROWS, params={"pageToken": first["nextPageToken"]}).json()
    assert [row["name"][-1] for row in rest["checkpoints"]] == ["b", "a"]


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"pageToken": "x"}, "page token"),
        ({"pageToken": "t٣"}, "page token"),
        ({"pageToken": "t" + "9" * 400}, "page token"),
        ({"pageSize": "many"}, "pageSize"),
        ({"pageSize": "-1"}, "pageSize"),
    ],
)
def test_bad_paging_is_refused(http: httpx.Client, new_job: NewJob, params: dict[str, str], says: str) -> None:
    new_job()
    answer = http.get(ROWS, params=params)
    assert (answer.status_code, answer.json()["code"]) == (400, 3)
    assert says in answer.json()["message"]


def test_a_job_without_checkpoints_has_an_empty_list_and_an_unknown_one_none(
    client: FireworksClient, new_job: NewJob
) -> None:
    new_job()
    assert client.list_checkpoints("j1") == []
    with pytest.raises(RuntimeError, match="404"):
        client.list_checkpoints("nojob")


@pytest.mark.parametrize(
    ("precision", "digits"), [("seconds", {0}), ("millis", {3}), ("nanos", {9}), ("mixed", {0, 6})]
)
def test_stamps_have_the_digits_that_a_quirk_says(
    emu: Emulator, client: FireworksClient, new_job: NewJob, save: Save, precision: str, digits: set[int]
) -> None:
    job = new_job()
    for number in range(4):
        save(job, f"step-{number}", write_training)
    emu.quirks.set("rows.time_precision", precision, job="j1")
    rows = client.list_checkpoints("j1", page_size=1)
    assert {len(row["createTime"].removesuffix("Z").partition(".")[2]) for row in rows} == digits


def test_mixed_precision_makes_the_older_row_look_newer_as_text(
    emu: Emulator, client: FireworksClient, new_job: NewJob, save: Save
) -> None:
    job = new_job()
    emu.clock.advance(1 - time.time_ns() % 1_000_000_000 / 1e9)  # begin a second
    save(job, "old", write_training)
    save(job, "new", write_training)
    emu.quirks.set("rows.time_precision", "mixed")
    rows = client.list_checkpoints("j1")
    assert max(rows, key=lambda row: row["createTime"])["name"].endswith("/old")  # FAILURES A1, A2
    assert max(rows, key=lambda row: parse_rfc3339(row["createTime"]))["name"].endswith("/new")


def test_a_list_can_lag_behind_saves(emu: Emulator, client: FireworksClient, new_job: NewJob, save: Save) -> None:
    job = new_job()
    emu.quirks.set("rows.visible_after_lists", 2, checkpoint="a")
    emu.quirks.set("rows.visible_after_s", 30.0, checkpoint="b")
    save(job, "a", write_training)
    save(job, "b", write_training)
    assert [len(client.list_checkpoints("j1")) for _ in range(3)] == [0, 0, 1]
    emu.clock.advance(31)
    assert len(client.list_checkpoints("j1")) == 2


def test_a_late_row_that_was_seen_does_not_vanish_when_the_emulator_starts_again(
    tmp_path: Path, backend: DictBackend
) -> None:
    seen = []
    for start in range(2):
        with Emulator(backend, state_dir=tmp_path / "state") as emu:
            emu.quirks.set("rows.visible_after_lists", 2)
            if start == 0:
                job = emu.platform.jobs.create(emu.account, JobSpec(base_model=BASE), "j1")
                keep(emu, job, "a", write_training)
            client = FireworksClient(api_key=emu.api_key, base_url=emu.url)
            seen += [len(client.list_checkpoints("j1")) for _ in range(3)]
    assert seen == [0, 0, 1, 1, 1, 1]


def test_a_server_clock_that_is_behind_shows_in_rows(
    emu: Emulator, client: FireworksClient, new_job: NewJob, save: Save
) -> None:
    row = save(new_job(), "a", write_training)
    emu.quirks.set("clock.skew_s", -300.0)
    assert parse_rfc3339(client.list_checkpoints("j1")[0]["createTime"]) == row.created - 300_000_000


def test_fields_can_be_missing_and_types_unheard_of(
    emu: Emulator, client: FireworksClient, new_job: NewJob, save: Save
) -> None:
    save(new_job(), "a", write_training)
    emu.quirks.set("rows.omit", ["createTime"])
    emu.quirks.set("rows.drop_false", True)
    emu.quirks.set("rows.extra_type", "CHECKPOINT_TYPE_X")
    lean, unknown = client.list_checkpoints("j1")
    assert sorted(lean) == ["availability", "checkpointType", "name", "restoreReference", "updateTime"]
    assert unknown["checkpointType"] == "CHECKPOINT_TYPE_X"


@pytest.mark.parametrize("style", ["rlorTrainerJobCheckpoints", "snake_case"])
def test_old_spellings_of_a_page_are_read_by_the_client(
    emu: Emulator, client: FireworksClient, http: httpx.Client, new_job: NewJob, save: Save, style: str
) -> None:
    save(new_job(), "a", write_training)
    emu.quirks.set("rows.key_style", style)
    assert len(client.list_checkpoints("j1")) == 1
    assert http.get(ROWS).json().keys() & {"checkpoints", "rlorTrainerJobCheckpoints"}


def test_an_endless_list_names_the_same_page_again(
    emu: Emulator, http: httpx.Client, new_job: NewJob, save: Save
) -> None:
    save(new_job(), "a", write_training)
    emu.quirks.set("rows.endless_token", True)
    first = http.get(ROWS).json()
    again = http.get(ROWS, params={"pageToken": first["nextPageToken"]}).json()
    assert again["nextPageToken"] == first["nextPageToken"] != ""
    assert again["checkpoints"] == first["checkpoints"]


def test_the_largest_page_can_be_capped(emu: Emulator, http: httpx.Client, new_job: NewJob, save: Save) -> None:
    job = new_job()
    for name in "abc":
        save(job, name, write_training)
    emu.quirks.set("rows.page_size_cap", 2)
    assert len(http.get(ROWS, params={"pageSize": 200}).json()["checkpoints"]) == 2


def test_sessions_have_their_own_list(emu: Emulator, client: FireworksClient, save: Save) -> None:
    now = emu.clock.now()
    with emu.world.change():
        emu.world.sessions.put(Session("acct1", "ts-1", now, now))
    assert client.list_training_session_checkpoints("accounts/acct1/trainingSessions/ts-1") == []
    with pytest.raises(RuntimeError, match="404"):
        client.list_training_session_checkpoints("accounts/acct1/trainingSessions/ts-2")


def test_ten_thousand_rows_are_listed_whole_and_page_by_page(
    emu: Emulator, client: FireworksClient, new_job: NewJob
) -> None:
    job = new_job()
    with emu.world.change():
        for number in range(10_000):
            now = emu.clock.now()
            row = Checkpoint(job.name, f"step-{number}", now, now, CheckpointKind.TRAINING, "x", BASE)
            emu.world.checkpoints.put(row)
    before = len(emu.journal)
    listed = client.list_checkpoints("j1")
    assert len({row["name"] for row in listed}) == len(listed) == 10_000
    asked = [one for one in list(emu.journal)[before:] if one.endpoint == "list_checkpoints"]
    assert len(asked) == 10_000 // 200
