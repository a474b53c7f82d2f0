from typing import Any

import pytest

from ftsim.training.data.batches import Step, build_plan, split, steps_done
from ftsim.training.errors import CheckpointError


def plan(usable: list[bool], **more: Any) -> list[Step]:
    return build_plan(usable, **({"epochs": 2, "batch_size": 2, "accumulation": 2, "seed": 7} | more))


def test_every_usable_row_is_trained_once_per_epoch_and_every_raw_row_counted() -> None:
    usable = [row % 5 != 0 for row in range(23)]
    steps = plan(usable)
    for epoch in range(2):
        rows = [row for step in steps if step.epoch == epoch for batch in step.micro_batches for row in batch]
        assert sorted(rows) == [row for row in range(23) if usable[row]]
        assert [step for step in steps if step.epoch == epoch][-1].data_consumed == 23 * (epoch + 1)
    assert all(len(batch) <= 2 and len(step.micro_batches) <= 2 for step in steps for batch in step.micro_batches)
    consumed = [step.data_consumed for step in steps]
    assert consumed == sorted(set(consumed))


def test_epochs_are_shuffled_differently_and_always_the_same_way() -> None:
    first, again = plan([True] * 16), plan([True] * 16)
    assert first == again
    assert [step.micro_batches for step in first[:4]] != [step.micro_batches for step in first[4:]]
    assert plan([True] * 16, seed=8) != first


def test_the_cursor_gives_back_the_step() -> None:
    steps = plan([row % 3 != 0 for row in range(17)])
    assert [steps_done(steps, step.data_consumed) for step in steps] == list(range(1, len(steps) + 1))
    assert steps_done(steps, 0) == 0


@pytest.mark.parametrize("cursor", [3, 1000])
def test_a_cursor_that_ends_no_step_means_the_data_changed(cursor: int) -> None:
    with pytest.raises(CheckpointError, match="changed since"):
        steps_done(plan([True] * 16), cursor)


def test_the_split_is_seeded_and_without_overlap() -> None:
    train, held_out = split(20, 0.1, 3)
    assert sorted(train + held_out) == list(range(20))
    assert len(held_out) == 2
    assert split(20, 0.1, 3) == (train, held_out)
    assert split(3, 0.01, 0)[1] != []
    assert split(3, 0.0, 0) == ([0, 1, 2], [])


def test_rows_of_like_length_share_a_step_and_nothing_else_changes() -> None:
    lengths = [(7 * row) % 100 for row in range(100)]
    usable = [row % 9 != 0 for row in range(100)]
    settings: dict[str, Any] = {"epochs": 2, "batch_size": 4, "accumulation": 2, "seed": 3}
    plain, grouped = build_plan(usable, **settings), build_plan(usable, **settings, lengths=lengths)
    assert [step.data_consumed for step in plain] == [step.data_consumed for step in grouped]

    def rows(step: Step) -> list[int]:
        return [row for batch in step.micro_batches for row in batch]

    for epoch in range(2):
        both = [sorted(row for step in plan if step.epoch == epoch for row in rows(step)) for plan in (plain, grouped)]
        assert both[0] == both[1]
        spans = [
            max(of) - min(of) for step in grouped if step.epoch == epoch if (of := [lengths[r] for r in rows(step)])
        ]
        assert max(spans) <= 12
        firsts = [lengths[rows(step)[0]] for step in grouped if step.epoch == epoch]
        assert firsts != sorted(firsts)
    assert build_plan(usable, **settings, lengths=lengths) == grouped
