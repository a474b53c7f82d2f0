"""Helpers of the tests of DPO and ORPO: a small configuration, and all that a finished run leaves behind."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from emulator.server import Emulator
from ftsim.compute import data
from ftsim.training.trainers import job_id_for
from ftsim.training.utils import WeightSyncConfig
from tests.training.interrupts import counting, interrupt
from tests.training.runs import files, rows, running

STEPS = 6
BASE = "accounts/fireworks/models/qwen3-8b"


def configure(recipe: ModuleType, folder: Path, tokenizer_folder: Path, name: str = "run", **more: Any) -> Any:
    """13 pairs of which one is too long, in two epochs of three steps with two micro-batches each."""
    folder.mkdir(exist_ok=True)
    dataset = folder / "pairs.jsonl"
    lines = data.path("preference-train").read_text("utf-8").splitlines()[:12]
    first = json.loads(lines[0])
    long = {"messages": [*first["chosen"]["messages"][:-1], {"role": "assistant", "content": "No. " * 60}]}
    lines.insert(5, json.dumps({**first, "rejected": long}))
    dataset.write_text("\n".join(lines) + "\n")
    fields: dict[str, Any] = {
        "log_path": str(folder / name),
        "base_model": BASE,
        "dataset": str(dataset),
        "tokenizer_model": str(tokenizer_folder),
        "learning_rate": 1e-3,
        "lr_schedule": "cosine",
        "warmup_steps": 2,
        "epochs": 2,
        "batch_size": 2,
        "gradient_accumulation_steps": 2,
        "max_seq_len": 64,
        "truncate": False,
        "eval_split": 0.08,
        "weight_sync": WeightSyncConfig(dcp_save_interval=2),
    }
    return recipe.Config(**(fields | more))


def job_of(recipe: str, config: Any) -> str:
    return job_id_for(recipe, config.log_path)


def metrics(config: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(config.log_path) / "metrics.jsonl").read_text().splitlines()]


def remains(emulator: Emulator, recipe: str, config: Any, steps: int = STEPS) -> dict[str, Any]:
    """Everything by which two runs may be told apart: weights, optimizer, steps, rows, rates, losses, the cursor."""
    found = rows(emulator, job_of(recipe, config))
    (sampler,) = [path for name, path in found.items() if name.startswith(f"step-{steps}-") and "-r" not in name]
    state = found[f"step-{steps}"]
    cursors = json.loads((Path(config.log_path) / "dataloader.json").read_text())
    return {
        "weights": files(sampler, "*.safetensors"),
        "state": files(state, "*.distcp"),
        "metrics": metrics(config),
        "cursor": cursors[f"step-{steps}"],
    }


def calls_of(recipe: ModuleType, config: Any) -> list[str]:
    """Run without interruption; returns the names of the calls that were made."""
    with counting() as calls:
        recipe.main(config)
    return calls.made


def moments(calls: list[str], count: int, seed: int) -> list[tuple[int, bool]]:
    """Random moments of a run: the number of a call, and whether to die after it instead of before."""
    chance = random.Random(seed)
    return [(at, chance.random() < 0.5) for at in sorted(chance.sample(range(len(calls)), count))]


def nth(calls: list[str], name: str, count: int) -> int:
    """The number of the `count`-th call of that name."""
    return [number for number, made in enumerate(calls) if made == name][count - 1]


def check_interruptions(
    emulator: Emulator,
    recipe: ModuleType,
    name: str,
    configured: Callable[..., Any],
    count: int,
    seed: int,
    steps: int = STEPS,
) -> dict[str, Any]:
    """Runs interrupted at `count` random moments and started again leave what an uninterrupted one leaves."""
    quiet = configured("quiet")
    chosen = moments(calls_of(recipe, quiet), count, seed)
    expected = remains(emulator, name, quiet, steps)
    for number, (at, after) in enumerate(chosen):
        config = configured(f"interrupted-{number}")
        interrupt(recipe.main, config, at, after=after)
        recipe.main(config)
        assert remains(emulator, name, config, steps) == expected, (at, after)
        assert not running(emulator), (at, after)
    return expected
