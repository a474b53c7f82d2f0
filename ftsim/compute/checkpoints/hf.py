"""Full weights as a Hugging Face folder: config, tokenizer, generation settings of the base, one safetensors file."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from emulator.backend import BackendError
from ftsim.compute.checkpoints import companions
from ftsim.compute.checkpoints.tensors import write
from ftsim.compute.quiet import quiet
from ftsim.compute.trainer import lora
from ftsim.compute.trainer.live import LiveModel

WEIGHTS = "model.safetensors"


def save(folder: Path, files: Mapping[str, bytes], tensors: Mapping[str, Tensor], **config: Any) -> None:
    """Write weights beside the small `files` of the base; `config` entries replace those of its config.json."""
    write(folder / WEIGHTS, tensors)
    companions.write(folder, files, dtype=str(next(iter(tensors.values())).dtype).removeprefix("torch."), **config)


def tensors_of(model: Any) -> dict[str, Tensor]:
    """Weights under the names that Hugging Face files use; tied tensors once."""
    from transformers.core_model_loading import revert_weight_conversion

    state = {name: value.detach() for name, value in model.state_dict().items()}
    for tied in getattr(model, "all_tied_weights_keys", None) or ():
        state.pop(tied, None)
    if getattr(model, "_weight_conversions", True):
        state = revert_weight_conversion(model, state)
    return {name: value.contiguous() for name, value in state.items()}


def save_merged(held: LiveModel, folder: Path, precision: str | None) -> None:
    """Base and adapter as one set of weights; refused for an adapter that changes nothing (FAILURES B10)."""
    if lora.changes_nothing(held.model):
        raise BackendError("merged_base needs a trained or loaded adapter; this one is untouched")
    dtype = _precision(held, precision)
    model: Any = copy.deepcopy(held.model)
    bare = model.get_base_model()
    unembed = bare.get_output_embeddings()
    untied = bool(bare.config.tie_word_embeddings) and hasattr(unembed, "base_layer")
    if untied:  # the adapter sits on one use of the shared matrix only
        unembed.base_layer.weight = torch.nn.Parameter(unembed.base_layer.weight.detach().clone())
    with quiet():
        merged = model.merge_and_unload()
    if untied:
        merged.config.tie_word_embeddings = False
        merged.all_tied_weights_keys = {}
    tensors = {name: value.to(dtype) for name, value in tensors_of(merged).items()}
    save(folder, held.companions, tensors, **({"tie_word_embeddings": False} if untied else {}))


def _precision(held: LiveModel, precision: str | None) -> torch.dtype:
    if precision == "bf16":
        return torch.bfloat16
    if precision in (None, "source"):
        settings = json.loads(held.companions["config.json"])
        name = settings.get("dtype") or settings.get("torch_dtype") or "float32"
        return cast(torch.dtype, getattr(torch, name))
    raise BackendError(
        f"export_precision {precision!r} needs quantisation kernels that this trainer lacks; use 'source' or 'bf16'"
    )
