"""`python -m tests.learning.pictures docs/img [RECIPE ...]`: train as `ftsim train` does, draw what is logged."""

import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

from ftsim.inspect import curves
from ftsim.training.recipes import dpo_loop, igpo_loop, orpo_loop, rl_loop, sft_loop
from tests.learning.runs import RL, entries

RUNS = (
    ("sft", sft_loop, "chat", {"learning_rate": 1e-3, "eval_interval": 10}),
    ("dpo", dpo_loop, "preference", {"learning_rate": 3e-4, "eval_interval": 5}),
    ("orpo", orpo_loop, "preference", {"learning_rate": 1e-3, "eval_interval": 5}),
    ("rl", rl_loop, "rl-copy", RL),
    ("igpo", igpo_loop, "search", RL | {"epochs": 1}),
)


def main(folder: Path, wanted: Collection[str]) -> None:
    """Write `<recipe>.png` into `folder` for each recipe that is wanted, for all when none is named."""
    for name, recipe, data_set, settings in RUNS:
        if wanted and name not in wanted:
            continue
        with tempfile.TemporaryDirectory() as work:
            logged = entries(recipe, data_set, Path(work), lora_rank=8, **settings)
        print(curves.draw(logged, folder / f"{name}.png", f"{name}: LoRA rank 8 of the small qwen3-8b, shipped data"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
