"""Merged weights with quantised experts, by the vendor's own `fireworks-prequant`; everything else is in bfloat16."""

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from emulator.backend import BackendError
from emulator.core.kinds import WEIGHT_SPEC
from ftsim.compute.checkpoints.source import WEIGHTS, Source, write_small
from ftsim.compute.checkpoints.tensors import write

FORMATS = {"fp8_block128": "mxfp8_bw128", "mxfp8": "mxfp8", "nvfp4": "nvfp4"}
"""`export_precision` -> the format's name in fireworks-prequant."""
_KERNELS = {"mxfp8": "flashinfer", "nvfp4": "triton"}
"""Modules of the formats that are computed on a CUDA device alone."""


def refuse_without_kernels(precision: str) -> None:
    """Raise `BackendError` for a format that needs a kernel which is not here."""
    kernel = _KERNELS.get(precision)
    if kernel is not None and not (torch.cuda.is_available() and find_spec(kernel)):
        raise BackendError(
            f"export_precision {precision!r} needs quantisation kernels that this trainer lacks (a CUDA device and "
            f"{kernel}): use 'fp8_block128', whose arithmetic is torch's alone, 'bf16' or 'source'"
        )


def save(folder: Path, source: Source, tensors: Mapping[str, Tensor], precision: str) -> None:
    """Write `tensors`, those of experts quantised, and the small files; raises `BackendError` where there are none.

    An fp8 block of 128 × 128 weights shares one float32 scale, and no weight is off by more than 16/448 of the largest
    of its block.
    """
    from fireworks_prequant import quantization_config, quantize_state_dict, should_quantize_weight

    if not any(map(should_quantize_weight, tensors)):
        raise BackendError(
            f"export_precision {precision!r} quantises the weights of experts alone, and this model has none under "
            "names such as model.layers.0.mlp.experts.0.up_proj.weight: use 'bf16' or 'source'"
        )
    format = FORMATS[precision]
    device = "cuda" if precision in _KERNELS else "cpu"
    write(folder / WEIGHTS, quantize_state_dict(dict(tensors), fmt=format, device=device))
    write_small(folder, source.files, dtype="bfloat16", quantization_config=quantization_config(format))
    (folder / WEIGHT_SPEC).write_text(json.dumps({"tensor_map": _tensor_map(folder / WEIGHTS)}), encoding="utf-8")


def _tensor_map(path: Path) -> dict[str, dict[str, Any]]:
    """Shape and type of every tensor: without it a deployment refuses a quantised snapshot (resources 10.3)."""
    with safe_open(path, framework="pt") as file:
        parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        return {name: {"shape": part.get_shape(), "dtype": part.get_dtype()} for name, part in parts.items()}
