"""Open a blob the way promotion does, and say what it is."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from emulator.backend import BackendError, BaseModel, LoraSpec, ModelDescription, ModelSpec
from ftsim.compute.checkpoints import peft
from ftsim.compute.checkpoints.names import tensors_of
from ftsim.compute.checkpoints.source import open_model
from ftsim.compute.trainer import live

_EXPERT_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts")


def describe(folder: Path, base: tuple[str, Path] | None = None) -> ModelDescription:
    """Facts about a Hugging Face folder, or about a PEFT folder over `base` (name and folder).

    The model is really built from the files; raises `BackendError` saying what is wrong when that fails.
    """
    _refuse_torn(folder)
    if (folder / peft.CONFIG).exists():
        return _adapter(folder, base)
    if not (folder / "config.json").exists():
        raise BackendError(f"{folder.name} is neither a Hugging Face folder nor a PEFT folder")
    _refuse_delta(folder)
    model = open_model(folder, torch.float32)
    return _facts(model, sum(value.numel() for value in tensors_of(model).values()))


def _adapter(folder: Path, base: tuple[str, Path] | None) -> ModelDescription:
    if base is None:
        raise BackendError(f"{folder.name} is an adapter; say which base model it belongs to")
    name, base_folder = base
    config, tensors = peft.read_config(folder), peft.read_tensors(folder)
    spec = LoraSpec(config["r"], float(config.get("lora_alpha") or 1))
    model = live.build(ModelSpec("describe", BaseModel(name), spec), base_folder, torch.device("cpu"), torch.float32)
    peft.load(model, folder)
    facts = _facts(model.bare, sum(value.numel() for value in tensors.values()))
    modules = [config.get("target_modules") or [], config.get("target_parameters") or []]
    return ModelDescription(
        model_type=facts.model_type,
        parameter_count=facts.parameter_count,
        context_length=facts.context_length,
        moe=facts.moe,
        lora_rank=config["r"],
        target_modules=sorted(name for part in modules for name in ([part] if isinstance(part, str) else part)),
    )


def _facts(model: Any, parameters: int) -> ModelDescription:
    config = model.config.get_text_config()
    return ModelDescription(
        model_type=model.config.model_type,
        parameter_count=parameters,
        context_length=config.max_position_embeddings,
        moe=any(getattr(config, name, None) for name in _EXPERT_COUNTS),
    )


def _refuse_torn(folder: Path) -> None:
    """A tokenizer with half its file missing would show when somebody opens the model, long after its promotion."""
    for path in sorted(folder.glob("*.json")):
        try:
            json.loads(path.read_bytes())
        except ValueError as error:
            raise BackendError(f"{folder.name}: {path.name} is not whole: {error}") from error


def _refuse_delta(folder: Path) -> None:
    """A delta has the file names of full weights; say so instead of failing on shapes (WIRE 5.6)."""
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                types = {file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118
        except Exception as error:  # safetensors raises its own type
            raise BackendError(f"{folder.name}: {path.name} is not whole: {error}") from error
        if types == {"U8"}:
            raise BackendError(f"{folder.name} is a delta, not a model; promote a checkpoint saved as 'base'")
