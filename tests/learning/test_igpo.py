"""The policy learns to look up what it was asked for, and then to believe what it was told."""

from pathlib import Path

import pytest

from ftsim.training.recipes import igpo_loop
from tests.learning.runs import RL, SEEDS, at_the_end, entries, untrained

pytestmark = pytest.mark.learning


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("lora_rank", "learning_rate", "epochs"), [(8, 3e-3, 1), (0, 1e-3, 2)])
def test_the_mean_outcome_and_what_turns_find_out_rise(
    tmp_path: Path, lora_rank: int, learning_rate: float, epochs: int, seed: int
) -> None:
    base = untrained(igpo_loop, "search", tmp_path / "base", seed)
    settings = RL | {"learning_rate": learning_rate, "epochs": epochs}
    logged = entries(igpo_loop, "search", tmp_path, lora_rank=lora_rank, seed=seed, **settings)
    outcome, gain = at_the_end(logged, "reward"), at_the_end(logged, "gain")
    print(f"mean outcome {base['reward']:.3f} -> {outcome:.3f}, gain per episode {base['gain']:.3f} -> {gain:.3f}")
    assert base["reward"] < 0.5
    assert outcome > max(base["reward"] + 0.25, 0.7)
    assert gain > base["gain"]
