"""Hugging Face folders that somebody brings: what their files say of the model, without building it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from emulator.core.kinds import CheckpointKind, detect, weight_shards, why_no_model

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "tiktoken.model", "tekken.json")
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")


@dataclass(frozen=True)
class FolderFacts:
    """The facts of a model with full weights; `context_length` in tokens, 0 where its configuration says none."""

    model_type: str
    parameter_count: int
    context_length: int
    moe: bool


def read(folder: Path) -> FolderFacts:
    """The facts of a folder for which `why_unusable` has nothing to say."""
    config = json.loads((folder / "config.json").read_bytes())
    text = config.get("text_config") or config  # of a model that also sees or hears
    tensors = (tensor for shard in weight_shards(folder) for tensor in shard.tensors.values())
    return FolderFacts(
        config["model_type"],
        sum(prod(tensor.shape) for tensor in tensors),
        int(text.get("max_position_embeddings") or 0),
        any(text.get(key) for key in _EXPERTS),
    )


def why_unusable(folder: Path) -> str:
    """Say why a folder cannot be put behind the name of a base model; "" when it can."""
    if why := why_no_model(folder):
        return f"is no Hugging Face model folder: {why}"
    if method := _unreadable_quantisation(json.loads((folder / "config.json").read_bytes())):
        return f"is quantised with {method}, which needs kernels that are not here: use a folder with plain weights"
    return ""


def why_no_adapter(folder: Path) -> str:
    """Say why a folder is no adapter; "" when it is one."""
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / name).exists():
            return f"is no PEFT folder: it has no {name}"
    if any(folder.glob("model*.safetensors")):
        return "is no PEFT folder: weights of a whole model lie in it, too"
    if detect(folder) is not CheckpointKind.INFERENCE_LORA:
        return "is no PEFT folder: adapter_config.json has a rank, the tensors are LoRA's, in whole pairs of A and B"
    return ""


def has_tokenizer(folder: Path) -> bool:
    """Say whether a folder has the file of a tokenizer."""
    return any((folder / name).exists() for name in _TOKENIZERS)


def _unreadable_quantisation(config: Mapping[str, Any]) -> str:
    """The quantisation of weights that cannot be opened as plain ones; "" for the others."""
    settings = config.get("quantization_config")
    method = str(settings.get("quant_method") or "an unnamed method") if isinstance(settings, dict) else ""
    return "" if method in ("fp8", "mxfp4") else method
