import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ftsim.training.checkpoints.cursors import KEEP, Cursors
from ftsim.training.errors import CheckpointError


def test_cursors_come_back_in_the_order_they_were_written(tmp_path: Path) -> None:
    cursors = Cursors(tmp_path / "new")
    cursors.record({"step-2": 16})
    cursors.record({"step-1": 8})
    cursors.record({"step-2": 17})
    assert list(Cursors(tmp_path / "new").recorded().items()) == [("step-1", 8), ("step-2", 17)]


def test_a_new_run_of_small_steps_outlives_old_large_ones(tmp_path: Path) -> None:
    cursors = Cursors(tmp_path)
    for step in range(100, 100 + KEEP):
        cursors.record({f"step-{step}": step})
    cursors.record({"step-1": 8})
    assert cursors.recorded()["step-1"] == 8
    assert len(cursors.recorded()) == KEEP
    assert "step-100" not in cursors.recorded()


def test_an_announced_cursor_is_no_checkpoint_until_it_is_recorded(tmp_path: Path) -> None:
    cursors = Cursors(tmp_path)
    cursors.announce("step-4", 32)
    assert (cursors.recorded(), cursors.announced()) == ({}, {"step-4": 32})
    cursors.record({"step-4": 32})
    assert (cursors.recorded(), cursors.announced()) == ({"step-4": 32}, {})


def test_what_was_begun_and_never_recorded_stays_known_beside_other_saves(tmp_path: Path) -> None:
    cursors = Cursors(tmp_path)
    cursors.announce("step-4", 32)
    cursors.record({"step-2": 16})
    cursors.announce("step-4-r2", 32)
    assert cursors.announced() == {"step-4": 32, "step-4-r2": 32}
    cursors.announce("step-4", 40)
    assert cursors.announced()["step-4"] == 40


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"step-1": 8',
        "[]",
        "null",
        '{"step-1": null}',
        '{"step-1": "4.5"}',
        '{"step-1": 4.5}',
        '{"step-1": -1}',
        '{"step-1": true}',
        "\x00",
    ],
)
def test_a_damaged_file_stops_the_run_instead_of_counting_as_zero(tmp_path: Path, text: str) -> None:
    (tmp_path / "dataloader.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"dataloader\.json is damaged"):
        Cursors(tmp_path).recorded()
    with pytest.raises(CheckpointError):
        Cursors(tmp_path).record({"step-2": 1})
    assert (tmp_path / "dataloader.json").read_text() == text


def test_two_writers_lose_nothing_and_leave_no_litter(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda step: Cursors(tmp_path).record({f"step-{step}": step}), range(KEEP)))
    assert sorted(json.loads((tmp_path / "dataloader.json").read_text()).values()) == list(range(KEEP))
    assert [path.name for path in tmp_path.iterdir()] == ["dataloader.json"]
