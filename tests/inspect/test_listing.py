"""Listings of every shape: an answer of the API, a list, pages, JSON lines; and rows that lack things."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from emulator.core.kinds import CheckpointKind
from ftsim.inspect.explain import explain
from ftsim.inspect.listing import newest_by_text, oldest_first, parse, read

ROWS = Path(__file__).parents[2] / "fixtures" / "rows"
ROW = {"name": "accounts/a/rlorTrainerJobs/j/checkpoints/step-1", "checkpointType": "CHECKPOINT_TYPE_TRAINING"}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([ROW]),
        json.dumps({"checkpoints": [ROW], "nextPageToken": ""}),
        json.dumps({"rlorTrainerJobCheckpoints": [ROW]}),
        json.dumps({"rlor_trainer_job_checkpoints": [ROW]}),
        json.dumps({"trainingSessionCheckpoints": [ROW]}),
        json.dumps({"training_session_checkpoints": [ROW]}),
        json.dumps([{"checkpoints": [ROW]}, {"checkpoints": []}]),
        json.dumps(ROW),
        json.dumps(ROW) + "\n\n",
    ],
)
def test_every_form_of_a_listing_is_read(text: str) -> None:
    (row,) = parse(text)
    assert (row.id, row.owner, row.kind) == ("step-1", "j", CheckpointKind.TRAINING)


def test_json_lines_are_read() -> None:
    assert [row.id for row in parse(json.dumps(ROW) + "\n" + json.dumps(ROW | {"name": "step-2"}))] == [
        "step-1",
        "step-2",
    ]


@pytest.mark.parametrize("text", ["not json", '{"jobs": []}', '"text"', "3", "[1, 2]", '{"a": 1}\n{"b'])
def test_what_is_no_listing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no checkpoint rows|is not JSON"):
        parse(text)


@pytest.mark.parametrize("text", ["[]", '{"checkpoints": []}'])
def test_an_empty_listing_has_no_rows(text: str) -> None:
    assert parse(text) == []


@pytest.mark.parametrize(
    ("identifier", "kind", "logical", "suffix", "run"),
    [
        ("step-5", "TRAINING", "step-5", "", ""),
        ("step-5-45dda197", "INFERENCE_LORA", "step-5", "45dda197", ""),
        ("eval-20260401", "TRAINING", "eval-20260401", "", ""),
        (f"run-{'a' * 32}-step-5", "TRAINING_LORA", "step-5", "", f"run-{'a' * 32}"),
        (f"run-{'a' * 32}:step-5-45dda197", "INFERENCE_LORA", "step-5", "45dda197", f"run-{'a' * 32}"),
    ],
)
def test_a_row_tells_name_session_and_run_apart(
    identifier: str, kind: str, logical: str, suffix: str, run: str
) -> None:
    row = read({"name": identifier, "checkpointType": kind})
    assert (row.logical, row.suffix, row.run) == (logical, suffix, run)


def test_times_are_compared_as_times() -> None:
    rows = parse((ROWS / "mixed_times.json").read_text())
    assert [row.id for row in oldest_first(rows)] == ["step-1", "step-0", "step-2"]
    wrong = newest_by_text(rows)
    assert wrong is not None
    assert wrong.id == "step-1"


_text = st.text(max_size=12) | st.sampled_from(
    ["step-1", "2026-08-01T10:00:13Z", "CHECKPOINT_TYPE_TRAINING", ROW["name"]]
)
_value = st.none() | st.booleans() | st.integers() | _text | st.lists(_text, max_size=2)
_keys = st.sampled_from(["name", "id", "createTime", "create_time", "checkpointType", "promotable", "x"])
_rows: st.SearchStrategy[list[dict[str, Any]]] = st.lists(st.dictionaries(_keys, _value), min_size=1, max_size=5)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_rows)
def test_no_row_however_odd_makes_it_fail(raw: list[dict[str, Any]]) -> None:
    rows = [read(entry) for entry in raw]
    for row in rows:
        found = explain(row, rows)
        assert len(found.layers) == 3
        assert len(found.advice) == 2
