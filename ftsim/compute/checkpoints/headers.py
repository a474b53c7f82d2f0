"""Headers of safetensors files: enough to say whether weights fit, without reading them or building a model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open

from emulator.backend import BackendError
from ftsim.compute.checkpoints.source import weight_files

Shapes = Mapping[str, tuple[int, ...]]
LINEAR = frozenset({"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"})
"""Modules that are plain matrices in every family that has modules of these names."""
_PLAIN = frozenset({"F32", "F16", "BF16"})
_ROOT = "base_model.model."


def shapes(path: Path) -> dict[str, tuple[int, ...]] | None:
    """Names and shapes of the tensors of a file; None if some are no plain floating-point numbers.

    Raises `BackendError` for a file that is not whole: its header says how long it has to be.
    """
    found: dict[str, tuple[int, ...]] = {}
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                tensor = file.get_slice(name)
                if tensor.get_dtype() not in _PLAIN:
                    return None
                found[name] = tuple(tensor.get_shape())
    except Exception as error:  # safetensors raises its own type
        raise BackendError(f"{path.parent.name}: {path.name} is not whole: {error}") from error
    return found


def folder_shapes(folder: Path) -> dict[str, tuple[int, ...]] | None:
    """Names and shapes of all tensors of a model folder; None and errors as `shapes`."""
    found: dict[str, tuple[int, ...]] = {}
    for path in weight_files(folder):
        part = shapes(path)
        if part is None:
            return None
        found |= part
    return found


def dense_config(folder: Path) -> dict[str, Any] | None:
    """config.json of a text model with plain weights and without experts; None for any other."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return None
    known = isinstance(config, dict) and isinstance(config.get("model_type"), str)
    if not known or type(config.get("max_position_embeddings")) is not int:
        return None
    if any("expert" in key or key in ("text_config", "quantization_config") for key in config):
        return None
    return dict(config)


def adapter_fits(given: Shapes, rank: int, base: Shapes, tied: bool) -> bool:
    """Tell whether every tensor of an adapter is half of a pair for a plain matrix of `base`, and no half is missing.

    False says nothing against the adapter: it may be one of another kind.
    """
    modules: dict[str, set[str]] = {}
    for name, shape in given.items():
        module, found, half = name.removeprefix(_ROOT).rpartition(".lora_")
        matrix = base.get(f"{module}.weight", ())
        leaf = module.rpartition(".")[2]
        if not found or not name.startswith(_ROOT) or leaf not in LINEAR or len(matrix) != 2:
            return False
        if leaf == "lm_head" and tied:
            return False
        wanted = {"A.weight": (rank, matrix[1]), "B.weight": (matrix[0], rank)}
        if shape != wanted.get(half):
            return False
        modules.setdefault(module, set()).add(half)
    return bool(modules) and all(len(halves) == 2 for halves in modules.values())
