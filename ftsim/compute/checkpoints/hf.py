"""Full weights as a Hugging Face folder: what the base's folder has beside them, and safetensors files."""

import copy
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emulator.backend import BackendError
from ftsim.compute.checkpoints import quantised
from ftsim.compute.checkpoints.names import tensors_of
from ftsim.compute.checkpoints.source import Source, stays_in_float32, write_small
from ftsim.compute.checkpoints.tensors import write_shards
from ftsim.compute.quiet import quiet
from ftsim.compute.trainer import lora
from ftsim.compute.trainer.live import LiveModel


def save(folder: Path, source: Source, tensors: Mapping[str, Tensor]) -> None:
    """Write weights, those of the source that no model has, and the small files with the type of most weights."""
    write_shards(folder, tensors)
    write_small(folder, source.files, dtype=usual_type(source, tensors))


def full_tensors(live: LiveModel) -> dict[str, Tensor]:
    """All tensors of a full-parameter folder, on the CPU: those of the model, and those that its source had beside."""
    tensors = tensors_of(live.model, live.gathered)
    return {name: value.cpu() for name, value in tensors.items()} | dict(live.source.carried)


def merged_tensors(live: LiveModel, precision: str | None) -> dict[str, Tensor]:
    """Base and adapter as one set of weights, which no step changes; refused for an adapter that changes nothing.

    (FAILURES B10.)
    """
    if lora.changes_nothing(live.model):
        raise BackendError("merged_base needs a trained or loaded adapter; this one is untouched")
    _check(precision, live.source)
    merged = _merged(live)
    tensors = {name: value.cpu().to(_stored(live, name, precision)) for name, value in tensors_of(merged).items()}
    return tensors | dict(live.source.carried)


def save_merged(folder: Path, source: Source, tensors: Mapping[str, Tensor], precision: str | None) -> None:
    """Write merged weights."""
    if precision in quantised.FORMATS:
        quantised.save(folder, source, tensors, precision)
    else:
        save(folder, source, tensors)


def _merged(live: LiveModel) -> Any:
    """The model with its adapter folded in; weights without an adapter are shared, and no memory is needed for them."""
    shared: dict[int, Any] = {
        id(value): torch.nn.Parameter(value.detach(), requires_grad=False)
        for name, value in live.model.named_parameters()
        if ".base_layer." not in name
    }
    try:
        model: Any = copy.deepcopy(live.model, shared)
    except RuntimeError as error:
        raise BackendError(
            f"{live.bare.config.model_type} keeps states of its last forward in its modules and cannot be copied to be "
            "merged: save the adapter, and merge it with peft"
        ) from error
    with quiet():
        return model.merge_and_unload()


def _check(precision: str | None, source: Source) -> None:
    if precision == "source" and "quantization_config" in source.config:
        method = source.config["quantization_config"].get("quant_method")
        raise BackendError(
            f"export_precision 'source' would need the {method} kernels of the base, which this trainer lacks: "
            "use 'bf16'"
        )
    if precision in quantised.FORMATS:
        quantised.refuse_without_kernels(precision)
    elif precision not in (None, "source", "bf16"):
        known = ", ".join(("source", "bf16", *quantised.FORMATS))
        raise BackendError(f"unknown export_precision {precision!r}; expected one of {known}")


def _stored(live: LiveModel, name: str, precision: str | None) -> torch.dtype:
    """The type in which a merged tensor is written: its own in the source, or bfloat16 where that may be."""
    if precision not in (None, "source"):
        kept = stays_in_float32(live.bare, name) and live.source.dtypes.get(name) is not torch.bfloat16
        return torch.float32 if kept else torch.bfloat16
    if name in live.source.dtypes:
        return live.source.dtypes[name]
    usual: torch.dtype = next(live.bare.parameters()).dtype
    return usual


def usual_type(source: Source, tensors: Mapping[str, Tensor]) -> str:
    """The type of most weights that a model has, as config.json names it."""
    counts: Counter[torch.dtype] = Counter()
    for name, value in tensors.items():
        if name not in source.carried:
            counts[value.dtype] += value.numel()
    return str(counts.most_common(1)[0][0]).removeprefix("torch.")
