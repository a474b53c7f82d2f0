"""Runs of the shipped recipes on the shipped data with the small base, and what they log."""

import dataclasses
import json
import os
from pathlib import Path
from statistics import mean
from types import ModuleType
from typing import Any

from ftsim.compute import data
from ftsim.compute.models.tokenizer import write_folder
from ftsim.local import Emulator
from ftsim.training.utils import WeightSyncConfig

BASE = "accounts/fireworks/models/qwen3-8b"
SEEDS = (0, 1, 2)
RL = {
    "learning_rate": 3e-3,
    "epochs": 2,
    "prompts_per_step": 8,
    "completions_per_prompt": 8,
    "max_completion_tokens": 16,
}
"""What the small base learns from its own samples with."""


def entries(recipe: ModuleType, data_set: str, folder: Path, **more: Any) -> list[dict[str, Any]]:
    """Train in `folder` on an emulator of its own; returns all that was logged."""
    tokenizer = folder / "tokenizer"
    tokenizer.mkdir(parents=True, exist_ok=True)
    write_folder(tokenizer, 4096)
    fields: dict[str, Any] = {
        "log_path": str(folder / "run"),
        "base_model": BASE,
        "dataset": str(data.path(f"{data_set}-train")),
        "eval_dataset": str(data.path(f"{data_set}-eval")),
        "tokenizer_model": str(tokenizer),
        "weight_sync": WeightSyncConfig(dcp_save_interval=10),
    }
    with Emulator(seed=more.get("seed", 0)) as emulator:
        before = dict(os.environ)
        os.environ.update(emulator.env())
        try:
            known = {field.name for field in dataclasses.fields(recipe.Config)}
            # Recipes that sample have no held-out rows: what they log is measured on fresh samples anyway.
            given = {name: value for name, value in fields.items() if name in known} | more
            recipe.main(recipe.Config(**given))
        finally:
            os.environ.clear()
            os.environ.update(before)
    lines = (folder / "run" / "metrics.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def held_out(logged: list[dict[str, Any]], name: str) -> tuple[float, float]:
    """The first and the last held-out value of a figure."""
    values = [entry[f"eval_{name}"] for entry in logged if f"eval_{name}" in entry]
    return values[0], values[-1]


def untrained(recipe: ModuleType, data_set: str, folder: Path, seed: int) -> dict[str, float]:
    """Means of what is logged when the base samples an answer to every prompt: a run that updates nothing."""
    settings = RL | {"learning_rate": 0.0, "epochs": 1, "lora_rank": 8, "seed": seed}
    logged = entries(recipe, data_set, folder, **settings)
    return {name: mean(_values(logged, name)) for name in ("reward", "gain") if _values(logged, name)}


def at_the_end(logged: list[dict[str, Any]], name: str) -> float:
    """The mean of a figure over the last fifth of the steps: single steps see few prompts."""
    values = _values(logged, name)
    return mean(values[-max(1, len(values) // 5) :])


def _values(logged: list[dict[str, Any]], name: str) -> list[float]:
    return [entry[name] for entry in logged if name in entry]
