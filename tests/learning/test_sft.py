"""Held-out perplexity falls: the lending desk's answers, asked about things no training row asks about."""

import math
from pathlib import Path

import pytest

from ftsim.training.recipes import sft_loop
from tests.learning.runs import SEEDS, entries, held_out

pytestmark = pytest.mark.learning
FACTOR = 1000
"""By which the held-out perplexity per token falls at least, in three epochs of 260 rows.

The base has never seen a chat template, so much of it is gained in the first steps; `end` says what is left.
"""


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("lora_rank", "learning_rate"), [(8, 1e-3), (0, 3e-4)])
def test_held_out_perplexity_falls(tmp_path: Path, lora_rank: int, learning_rate: float, seed: int) -> None:
    logged = entries(sft_loop, "chat", tmp_path, lora_rank=lora_rank, learning_rate=learning_rate, seed=seed)
    start, end = (math.exp(loss) for loss in held_out(logged, "loss"))
    print(f"held-out perplexity {start:.1f} -> {end:.2f}")
    assert start / end > FACTOR
    assert end < 4
