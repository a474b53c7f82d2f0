"""Open a blob the way promotion does, and say what it is."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from emulator.backend import BackendError, BaseModel, LoraSpec, ModelDescription, ModelSpec
from ftsim.compute.checkpoints import headers, peft
from ftsim.compute.checkpoints.names import tensors_of
from ftsim.compute.checkpoints.source import open_model
from ftsim.compute.execution import Execution
from ftsim.compute.trainer import live

_DECIDING = ("config.json", "generation_config.json")
_OPENED: dict[tuple[object, ...], ModelDescription] = {}
"""Folders of full weights that opened, by what decides whether they do."""
_MOST = 32
_PATTERNS = ("rank_pattern", "alpha_pattern", "target_parameters")
_EXPERT_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts")


def describe(folder: Path, base: tuple[str, Path] | None = None) -> ModelDescription:
    """Facts about a Hugging Face folder, or about a PEFT folder over `base` (name and folder).

    The headers of the files say whether an adapter fits a plain base, and whether full weights are those of a model
    that was opened before. Any other model is really built; raises `BackendError` saying what is wrong when that fails.
    """
    _refuse_torn(folder)
    if (folder / peft.CONFIG).exists():
        return _adapter(folder, base)
    if not (folder / "config.json").exists():
        raise BackendError(f"{folder.name} is neither a Hugging Face folder nor a PEFT folder")
    _refuse_delta(folder)
    key = (*(_bytes(folder / name) for name in _DECIDING), _names_and_shapes(folder))
    if key[-1] is not None and key in _OPENED:
        return _OPENED[key]
    model = open_model(folder, torch.float32)
    facts = _facts(model, sum(value.numel() for value in tensors_of(model).values()))
    if len(_OPENED) >= _MOST:
        _OPENED.clear()
    _OPENED[key] = facts
    return facts


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _names_and_shapes(folder: Path) -> frozenset[tuple[str, tuple[int, ...]]] | None:
    """The tensors that a folder has; None for types of which the header does not say enough."""
    found = headers.folder_shapes(folder)
    return None if found is None else frozenset(found.items())


def _adapter(folder: Path, base: tuple[str, Path] | None) -> ModelDescription:
    if base is None:
        raise BackendError(f"{folder.name} is an adapter; say which base model it belongs to")
    name, base_folder = base
    config = peft.read_config(folder)
    if (facts := _plain_adapter(folder, config, name, base_folder)) is not None:
        return _adapted(facts, config)
    tensors = peft.read_tensors(folder)
    spec = LoraSpec(config["r"], float(config.get("lora_alpha") or 1))
    model = live.build(ModelSpec("describe", BaseModel(name), spec), base_folder, torch.device("cpu"), Execution())
    peft.load(model, folder)
    facts = _facts(model.bare, sum(value.numel() for value in tensors.values()))
    return _adapted(facts, config)


def _plain_adapter(folder: Path, config: Mapping[str, Any], name: str, base_folder: Path) -> ModelDescription | None:
    """Facts about an adapter over a plain base, from headers alone; None where these do not show that it fits."""
    named = str(config.get("base_model_name_or_path"))
    settings = headers.dense_config(base_folder)
    if settings is None or config["r"] < 1 or any(config.get(key) for key in _PATTERNS):
        return None
    if named.startswith("accounts/") and named != name:
        return None
    peft.refuse_untrainable(folder.name, config)
    given, base = headers.shapes(folder / peft.WEIGHTS), headers.folder_shapes(base_folder)
    tied = bool(settings.get("tie_word_embeddings", True))
    if given is None or base is None or not headers.adapter_fits(given, config["r"], base, tied):
        return None
    count = sum(math.prod(shape) for shape in given.values())
    return ModelDescription(settings["model_type"], count, settings["max_position_embeddings"], moe=False)


def _adapted(facts: ModelDescription, config: Mapping[str, Any]) -> ModelDescription:
    modules = [config.get("target_modules") or [], config.get("target_parameters") or []]
    return replace(
        facts,
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
