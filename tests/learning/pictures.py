"""`python -m tests.learning.pictures docs/img`: train each recipe as `ftsim train` does and draw what it logged."""

import sys
import tempfile
from pathlib import Path

from ftsim import curves
from ftsim.training.recipes import dpo_loop, orpo_loop, sft_loop

from .runs import entries

RUNS = (
    ("sft", sft_loop, "chat", {"learning_rate": 1e-3, "eval_interval": 10}),
    ("dpo", dpo_loop, "preference", {"learning_rate": 3e-4, "eval_interval": 5}),
    ("orpo", orpo_loop, "preference", {"learning_rate": 1e-3, "eval_interval": 5}),
)


def main(folder: Path) -> None:
    """Write `<recipe>.png` for each recipe into `folder`."""
    for name, recipe, data_set, settings in RUNS:
        with tempfile.TemporaryDirectory() as work:
            logged = entries(recipe, data_set, Path(work), lora_rank=8, **settings)
        print(curves.draw(logged, folder / f"{name}.png", f"{name}: LoRA rank 8 of the small qwen3-8b, shipped data"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
