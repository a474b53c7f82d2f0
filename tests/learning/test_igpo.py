"""The policy learns to look up what it was asked for, and then to believe what it was told."""

from pathlib import Path

import pytest

from ftsim.training.recipes import igpo_loop

from .runs import RL, SEEDS, entries, sampled

pytestmark = pytest.mark.learning


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("lora_rank", "learning_rate", "epochs"), [(8, 3e-3, 1), (0, 1e-3, 2)])
def test_the_mean_outcome_and_what_turns_find_out_rise(
    tmp_path: Path, lora_rank: int, learning_rate: float, epochs: int, seed: int
) -> None:
    settings = RL | {"learning_rate": learning_rate, "epochs": epochs}
    logged = entries(igpo_loop, "search", tmp_path, lora_rank=lora_rank, seed=seed, **settings)
    start, end = sampled(logged, "reward")
    gain, most = sampled(logged, "gain")
    print(f"mean outcome {start:.3f} -> {end:.3f}, gain per episode {gain:.3f} -> {most:.3f}")
    assert start < 0.7
    assert end > max(start + 0.15, 0.75)
    assert most > gain
