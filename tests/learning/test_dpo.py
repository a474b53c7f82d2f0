"""Polite whole sentences win over bare words, in pairs no training row has."""

from pathlib import Path

import pytest

from ftsim.training.recipes import dpo_loop
from tests.learning.runs import SEEDS, entries, held_out

pytestmark = pytest.mark.learning


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("lora_rank", "learning_rate"), [(8, 3e-4), (0, 1e-4)])
def test_held_out_preferences_are_learned(tmp_path: Path, lora_rank: int, learning_rate: float, seed: int) -> None:
    logged = entries(dpo_loop, "preference", tmp_path, lora_rank=lora_rank, learning_rate=learning_rate, seed=seed)
    start, end = held_out(logged, "accuracy")
    print(f"held-out accuracy {start:.3f} -> {end:.3f}")
    assert start < 0.8 < 0.9 < end
    first, last = held_out(logged, "loss")
    assert last < first / 3
