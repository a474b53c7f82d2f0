"""Looks at files before the engine is given them, which takes some that do not fit without a word.

Measured with vLLM 0.32: `add_lora` leaves out tensors of an adapter that have no place; a folder that lacks tensors is
opened and reloaded all the same, and what it lacks is anything.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from emulator.backend import BackendError
from ftsim.compute import libraries
from ftsim.compute.checkpoints import peft
from ftsim.compute.checkpoints.headers import LINEAR, dense_config, folder_shapes, shapes
from ftsim.compute.quiet import quiet
from ftsim.compute.vllm.program import RANKS

Tensors = Mapping[str, Tensor]
FAMILIES = ("llama", "qwen2", "qwen3")
"""Types of models whose answers were compared with those of the other sampler, adapters and reloads included."""
_ROOT = "base_model.model."
_LAYER = ".base_layer.weight"
"""End of the name under which peft saves the whole output layer beside an adapter on it."""
_TORCH = "serve with --sampler torch"


def config_of(folder: Path) -> dict[str, Any]:
    """config.json of a model that this sampler serves; raises `BackendError` for another."""
    config = dense_config(folder)
    family = None if config is None else config["model_type"]
    if config is None or family not in FAMILIES or folder_shapes(folder) is None:
        raise BackendError(
            f"the sampler vllm serves dense models with plain weights, of the types {', '.join(FAMILIES)}, which were "
            f"compared with the sampler torch; {folder.name} is of type {family or 'unknown'}: {_TORCH}"
        )
    return config


def check_whole(folder: Path) -> None:
    """Raise `BackendError` unless a folder has every tensor of its model, in its shape, and no other."""
    libraries.load()
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        with quiet(), torch.device("meta"):
            model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    except Exception as error:  # transformers raises many types for settings that fit nothing
        raise BackendError(f"{folder.name} does not open as a model: {error}") from error
    tied = set(getattr(model, "all_tied_weights_keys", None) or ())
    own = {name: tuple(value.shape) for name, value in model.state_dict().items() if name not in tied}
    given = folder_shapes(folder) or {}
    if wrong := sorted(name for name in own.keys() | given.keys() if own.get(name) != given.get(name)):
        there = "is not in the folder" if wrong[0] in own else "has no place in the model"
        what = "has another shape" if wrong[0] in own and wrong[0] in given else there
        raise BackendError(f"{folder.name} does not open as a model: {wrong[0]} {what}")


def same_model(one: Path, other: Path) -> bool:
    """Tell whether an engine that serves one folder can be given the weights of the other."""
    plain = [
        {key: value for key, value in config_of(folder).items() if key not in ("dtype", "torch_dtype", "_name_or_path")}
        for folder in (one, other)
    ]
    return plain[0] == plain[1] and folder_shapes(one) == folder_shapes(other)


def rank_of(adapter: Path, weights: Tensors, *, tied: bool) -> int:
    """The highest rank in an adapter; raises `BackendError` unless every tensor of it has a place in the weights."""
    peft.read_config(adapter)
    base = {name: tuple(value.shape) for name, value in weights.items()}
    given = shapes(adapter / peft.WEIGHTS)
    if not given:
        raise BackendError(f"{adapter.name} has no plain tensors")
    ranks: dict[str, dict[str, int]] = {}
    for name, shape in given.items():
        if name.endswith(_LAYER) and _is_the_bases(adapter, name, weights):
            continue
        module, found, half = name.removeprefix(_ROOT).rpartition(".lora_")
        leaf, matrix = module.rpartition(".")[2], base.get(f"{module}.weight", ())
        places = {"A.weight": (1, 0), "B.weight": (0, 1)}
        own = places.get(half) if found and name.startswith(_ROOT) and leaf in LINEAR else None
        if own is None or len(matrix) != 2 or len(shape) != 2 or shape[own[0]] != matrix[1 - own[1]]:
            raise BackendError(f"the adapter does not fit this model: {name} has no place in it")
        if leaf == "lm_head" and tied:
            raise BackendError(
                f"the adapter changes an output layer that is tied to the embeddings, which vLLM would change both of: "
                f"{_TORCH}"
            )
        ranks.setdefault(module, {})[half] = shape[own[1]]
    if half_one := next((name for name, both in ranks.items() if len(set(both.values())) != 1 or len(both) != 2), None):
        raise BackendError(f"the adapter does not fit this model: the halves of {half_one} do not belong together")
    highest = max(rank for both in ranks.values() for rank in both.values())
    if highest > RANKS[-1]:
        raise BackendError(f"the adapter has rank {highest}, vLLM takes up to {RANKS[-1]}: {_TORCH}")
    return highest


def _is_the_bases(adapter: Path, name: str, weights: Tensors) -> bool:
    """Tell whether a whole layer beside its adapter is the base's own: the engine leaves it out, whatever it is."""
    own = weights.get(name.removeprefix(_ROOT).removesuffix(_LAYER) + ".weight")
    with safe_open(adapter / peft.WEIGHTS, framework="pt") as file:
        return own is not None and torch.equal(file.get_tensor(name).to(own.dtype), own)
