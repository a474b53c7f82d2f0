"""The policy learns to say words again although what it learns from is up to two steps old."""

from pathlib import Path

import pytest

from ftsim.training.recipes import async_rl_loop
from tests.learning.runs import RL, SEEDS, at_the_end, entries, untrained

pytestmark = pytest.mark.learning


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("lora_rank", "learning_rate"), [(8, 3e-3), (0, 1e-3)])
def test_the_mean_reward_of_samples_rises(tmp_path: Path, lora_rank: int, learning_rate: float, seed: int) -> None:
    start = untrained(async_rl_loop, "rl-copy", tmp_path / "base", seed)["reward"]
    settings = RL | {"learning_rate": learning_rate, "max_steps_off_policy": 2}
    logged = entries(async_rl_loop, "rl-copy", tmp_path, lora_rank=lora_rank, seed=seed, **settings)
    end = at_the_end(logged, "reward")
    print(f"mean reward {start:.3f} -> {end:.3f}")
    assert max(entry.get("off_policy_steps", 0) for entry in logged) == 2
    assert start < 0.35
    assert end > max(start + 0.2, 0.5)
