"""The policy learns to say words again: the share of exact copies among its samples rises."""

from pathlib import Path

import pytest

from ftsim.training.recipes import rl_loop
from tests.learning.runs import RL, SEEDS, at_the_end, entries, untrained

pytestmark = pytest.mark.learning


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("lora_rank", "learning_rate"), [(8, 3e-3), (0, 1e-3)])
def test_the_mean_reward_of_samples_rises(tmp_path: Path, lora_rank: int, learning_rate: float, seed: int) -> None:
    start = untrained(rl_loop, "rl-copy", tmp_path / "base", seed)["reward"]
    settings = RL | {"learning_rate": learning_rate}
    end = at_the_end(entries(rl_loop, "rl-copy", tmp_path, lora_rank=lora_rank, seed=seed, **settings), "reward")
    print(f"mean reward {start:.3f} -> {end:.3f}")
    assert start < 0.35
    assert end > max(start + 0.2, 0.5)
