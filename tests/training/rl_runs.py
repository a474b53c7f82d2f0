"""Helpers of the tests of RL and IGPO: small configurations, and all that a finished run leaves behind."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch.distributed.checkpoint import state_dict_loader
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from emulator.server import Emulator
from ftsim.compute import data
from ftsim.compute.quiet import quiet
from ftsim.training.trainers import job_id_for
from ftsim.training.utils import WeightSyncConfig
from tests.training.interrupts import SAMPLING_CALLS, counting, interrupt
from tests.training.preference_runs import metrics, moments
from tests.training.runs import files, rows, running

STEPS = 6
BASE = "accounts/fireworks/models/qwen3-8b"
DATA = {"rl": "rl-copy-train", "async_rl": "rl-copy-train", "igpo": "search-train"}


def name_of(recipe: ModuleType) -> str:
    return recipe.__name__.rpartition(".")[2].removesuffix("_loop")


def configure(recipe: ModuleType, folder: Path, tokenizer_folder: Path, name: str = "run", **more: Any) -> Any:
    """8 prompts and one that is too long, in two epochs of three steps."""
    folder.mkdir(exist_ok=True)
    dataset = folder / "prompts.jsonl"
    lines = data.path(DATA[name_of(recipe)]).read_text("utf-8").splitlines()[:8]
    long = [{"role": "user", "content": "Copy: " + "seal " * 200}]
    lines.insert(4, json.dumps({**json.loads(lines[0]), "messages": long}))
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
        "prompts_per_step": 3,
        "completions_per_prompt": 3,
        "max_completion_tokens": 8,
        "max_seq_len": 160,
        "weight_sync": WeightSyncConfig(dcp_save_interval=2),
    }
    return recipe.Config(**(fields | more))


def job_of(recipe: ModuleType, config: Any) -> str:
    return job_id_for(name_of(recipe), config.log_path)


def steps(config: Any) -> list[dict[str, Any]]:
    """The log of each step, without how long it took."""
    return [entry for entry in metrics(config) if "seconds" not in entry]


def tensors(folder: Path) -> dict[str, bytes]:
    """The tensors of a training state, but for the process's random state: opening a replica draws from it too."""
    reader = FileSystemReader(folder)
    held = {
        name: torch.empty(entry.size, dtype=entry.properties.dtype)
        for name, entry in reader.read_metadata().state_dict_metadata.items()
        if isinstance(entry, TensorStorageMetadata) and name != "random"
    }
    with quiet():
        state_dict_loader.load(held, storage_reader=reader, no_dist=True)
    return {name: value.numpy().tobytes() for name, value in held.items()}


def remains(emulator: Emulator, recipe: ModuleType, config: Any) -> dict[str, Any]:
    """Everything by which two runs may be told apart: weights, optimizer, steps, rewards, rates, losses, the cursor."""
    found = rows(emulator, job_of(recipe, config))
    samplers = [path for name, path in found.items() if name.startswith(f"step-{STEPS}-")]
    cursors = json.loads((Path(config.log_path) / "dataloader.json").read_text())
    return {
        "weights": files(samplers[-1], "*.safetensors"),
        "state": tensors(found[f"step-{STEPS}"]),
        "metrics": steps(config),
        "cursor": cursors[f"step-{STEPS}"],
    }


def check_interruptions(
    emulator: Emulator, recipe: ModuleType, configured: Callable[..., Any], count: int, seed: int
) -> dict[str, Any]:
    """Runs interrupted at `count` random moments and started again leave what an uninterrupted one leaves."""
    quiet = configured("quiet")
    with counting(watched=SAMPLING_CALLS) as calls:
        recipe.main(quiet)
    expected = remains(emulator, recipe, quiet)
    for number, (at, after) in enumerate(moments(calls.made, count, seed)):
        config = configured(f"interrupted-{number}")
        interrupt(recipe.main, config, at, after=after, watched=SAMPLING_CALLS)
        recipe.main(config)
        assert remains(emulator, recipe, config) == expected, (at, after, calls.made[at])
        assert not list(emulator.world.deployments), (at, after, calls.made[at])
        assert not running(emulator), (at, after, calls.made[at])
    return expected
