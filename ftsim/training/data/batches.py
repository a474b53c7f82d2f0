"""The plan which rows are trained when: fixed by the seed, so that a resumed run sees what it had still to see."""

import random
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from ftsim.training.errors import CheckpointError


@dataclass(frozen=True)
class Step:
    """One optimizer step: row numbers per micro-batch, and how many raw rows the run has consumed after it."""

    index: int
    epoch: int
    micro_batches: Sequence[Sequence[int]]
    data_consumed: int


WINDOW = 50
"""Steps whose rows are sorted among themselves when rows of like length are batched together."""


def build_plan(
    usable: Sequence[bool],
    *,
    epochs: int,
    batch_size: int,
    accumulation: int,
    seed: int,
    lengths: Sequence[int] | None = None,
) -> list[Step]:
    """Returns all steps of a run over `len(usable)` raw rows; with `lengths`, rows of like length share a step.

    Each epoch has its own seeded order (C17). Unusable rows are passed over and still counted (C16). Batches are
    full except at the end of an epoch, and the last step of an epoch consumes all that is left of it (C18).
    """
    plan: list[Step] = []
    per_step = batch_size * accumulation
    for epoch in range(epochs):
        order = list(range(len(usable)))
        random.Random(f"{seed}/{epoch}").shuffle(order)
        places = [place for place, row in enumerate(order) if usable[row]]
        if lengths is not None:
            grouped = _by_length(
                [order[place] for place in places], lengths, per_step, random.Random(f"{seed}/{epoch}/length")
            )
            for place, row in zip(places, grouped, strict=True):
                order[place] = row
        for start in range(0, len(places), per_step):
            taken = [order[place] for place in places[start : start + per_step]]
            last = start + per_step >= len(places)
            in_epoch = len(order) if last else places[start + per_step - 1] + 1
            micro = [taken[at : at + batch_size] for at in range(0, len(taken), batch_size)]
            plan.append(Step(len(plan), epoch, micro, epoch * len(order) + in_epoch))
    return plan


def _by_length(rows: Sequence[int], lengths: Sequence[int], per_step: int, chance: random.Random) -> list[int]:
    """Returns the rows so that each step's are of like length; which step comes when is left to chance."""
    grouped: list[int] = []
    for start in range(0, len(rows), per_step * WINDOW):
        window = sorted(rows[start : start + per_step * WINDOW], key=lambda row: (lengths[row], row))
        steps = [window[at : at + per_step] for at in range(0, len(window), per_step)]
        whole, rest = (
            [step for step in steps if len(step) == per_step],
            [step for step in steps if len(step) < per_step],
        )
        chance.shuffle(whole)
        grouped += [row for step in (*whole, *rest) for row in step]
    return grouped


def steps_done(plan: Sequence[Step], data_consumed: int) -> int:
    """Count the steps of `plan` that a checkpoint holds; `CheckpointError` when the data no longer match it (C15)."""
    if data_consumed == 0:
        return 0
    at = bisect_left(plan, data_consumed, key=lambda step: step.data_consumed)
    if at == len(plan) or plan[at].data_consumed != data_consumed:
        raise CheckpointError(
            f"the checkpoint has consumed {data_consumed} data rows, which no step of this run ends at: the data "
            "set, the batch size, the sequence limit or the seed changed since; restore them or use a new log_path"
        )
    return at + 1


def split(count: int, held_out: float, seed: int) -> tuple[list[int], list[int]]:
    """Row numbers for training and for evaluation; `held_out` is the fraction held out, at least one row."""
    if not held_out:
        return list(range(count)), []
    order = list(range(count))
    random.Random(f"{seed}/split").shuffle(order)
    size = max(1, round(count * held_out))
    return sorted(order[size:]), sorted(order[:size])
