import pytest

from ftsim.training.checkpoints.rows import parse_time, read_row, read_rows, step_of


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("2026-08-01T10:00:13Z", "2026-08-01T10:00:13.500000Z"),
        ("2026-08-01T10:00:13.5Z", "2026-08-01T10:00:13.500000001Z"),
        ("2026-08-01T10:00:13.499999999Z", "2026-08-01T10:00:13.5Z"),
        ("2026-08-01T12:00:00+02:00", "2026-08-01T10:00:00.1Z"),
        ("2026-12-31T23:59:59.9Z", "2027-01-01T00:00:00Z"),
    ],
)
def test_times_compare_as_times_whatever_their_precision(earlier: str, later: str) -> None:
    assert parse_time(earlier) < parse_time(later)


def test_what_is_not_a_time_is_refused() -> None:
    with pytest.raises(ValueError, match="RFC 3339"):
        parse_time("yesterday")


def test_rows_come_newest_first_although_listed_oldest_first_and_as_text_in_the_wrong_order() -> None:
    raw = [
        {"name": "a/step-1", "createTime": "2026-08-01T10:00:13Z"},
        {"name": "a/step-2", "createTime": "2026-08-01T10:00:13.500000Z"},
        {"name": "a/step-3", "createTime": "2026-08-01T10:00:13.5Z"},
        {"name": "a/nameless"},
    ]
    assert [row.id for row in read_rows(raw)] == ["step-3", "step-2", "step-1", "nameless"]


@pytest.mark.parametrize(
    ("kind", "resumable"),
    [
        ("CHECKPOINT_TYPE_TRAINING", True),
        ("TRAINING_LORA", True),
        ("CHECKPOINT_TYPE_INFERENCE_LORA", False),
        ("CHECKPOINT_TYPE_INFERENCE_ARC_V2", False),
        ("CHECKPOINT_TYPE_SOMETHING_NEW", False),
        ("", False),
    ],
)
def test_only_training_types_are_resumable(kind: str, resumable: bool) -> None:
    assert read_row({"name": "j/checkpoints/x", "checkpointType": kind}).resumable is resumable


@pytest.mark.parametrize("promotable", [None, "true", 1, False])
def test_promotable_is_believed_only_when_it_is_true(promotable: object) -> None:
    assert read_row({"name": "x", "promotable": promotable}).promotable is False
    assert read_row({"name": "x"}).promotable is False


@pytest.mark.parametrize(
    ("row", "name", "same"),
    [
        ("step-5-45dda197", "step-5", True),
        ("step-5", "step-5", False),
        ("step-50-45dda197", "step-5", False),
        ("eval-20260401", "eval-20260401", False),
        ("eval-20260401-45dda197", "eval-20260401", True),
        ("step-5-45dda1977", "step-5", False),
        ("step-5-DEADBEEF", "step-5", False),
    ],
)
def test_a_session_suffix_is_only_taken_off_a_known_name(row: str, name: str, same: bool) -> None:
    assert read_row({"name": row}).is_save_of(name) is same


@pytest.mark.parametrize(
    ("name", "step"),
    [("step-0", 0), ("step-12", 12), ("dpo-step-3", 3), ("step-3-r2", 3), ("step-", None), ("final", None)],
)
def test_the_step_is_read_from_the_name(name: str, step: int | None) -> None:
    assert step_of(name) == step
