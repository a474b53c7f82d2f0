"""LoRA adapters as PEFT folders: adapter_config.json and adapter_model.safetensors."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from emulator.backend import BackendError
from ftsim.compute.checkpoints.tensors import write
from ftsim.compute.quiet import quiet
from ftsim.compute.trainer.live import LiveModel
from ftsim.compute.trainer.lora import ADAPTER

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_VARIANTS = ("use_dora", "use_rslora", "lora_bias")


def save(held: LiveModel, folder: Path) -> None:
    """Write the adapter of `held`; peft opens the folder over the base model."""
    write(folder / WEIGHTS, {name: value.contiguous() for name, value in _tensors(held).items()})
    settings = held.model.peft_config[ADAPTER].to_dict()
    settings |= {"inference_mode": True, "base_model_name_or_path": held.spec.base_model.name}
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in settings.items()}
    (folder / CONFIG).write_text(json.dumps(plain, indent=2, sort_keys=True, default=str) + "\n")


def load(held: LiveModel, folder: Path) -> None:
    """Replace the adapter of `held` and reset its optimizer; raises `BackendError` before anything changed.

    Another alpha than this model's is folded into B. Modules that the adapter lacks get a zero B.
    """
    from peft import set_peft_model_state_dict

    if held.spec.lora is None:
        raise BackendError("load_adapter needs a LoRA model; this one is full-parameter")
    config = read_config(folder)
    if config["r"] != held.spec.lora.rank:  # FAILURES C10
        raise BackendError(f"the adapter has rank {config['r']}, this model has {held.spec.lora.rank}")
    named = str(config.get("base_model_name_or_path"))
    if named.startswith("accounts/") and named != held.spec.base_model.name:  # FAILURES C11
        raise BackendError(f"the adapter was trained on {named}, this model on {held.spec.base_model.name}")
    given, mine = read_tensors(folder), _tensors(held)
    check_fit(given, mine)
    scale = float(config.get("lora_alpha", held.spec.lora.alpha)) / held.spec.lora.alpha
    new = {}
    for name, value in mine.items():
        new[name] = given[name] if name in given else torch.zeros_like(value) if "lora_B" in name else value
        if name in given and "lora_B" in name and scale != 1:
            new[name] = given[name] * scale
    with quiet():
        set_peft_model_state_dict(held.model, new)
    held.forget_optimizer()


def read_config(folder: Path) -> dict[str, Any]:
    """A LoRA adapter's settings; raises `BackendError` when there are none or they ask for another method."""
    try:
        config = json.loads((folder / CONFIG).read_bytes())
    except (OSError, ValueError):
        raise BackendError(f"{folder.name} is not an adapter: it has no readable {CONFIG}") from None
    if not isinstance(config, dict) or type(config.get("r")) is not int or config.get("peft_type", "LORA") != "LORA":
        raise BackendError(f"{folder.name} is not a LoRA adapter")
    variant = next((name for name in _VARIANTS if config.get(name)), None)
    if variant:
        raise BackendError(f"{folder.name} uses {variant}, which this trainer does not have")
    return config


def read_tensors(folder: Path) -> dict[str, Tensor]:
    try:
        return dict(load_file(folder / WEIGHTS))
    except Exception as error:  # safetensors raises its own type
        raise BackendError(f"{folder.name} has no readable {WEIGHTS}: {error}") from error


def check_fit(given: dict[str, Tensor], mine: dict[str, Tensor]) -> None:
    """Every given tensor has a place of its shape."""
    if not given:
        raise BackendError("the adapter is empty")
    for name, value in given.items():
        if name not in mine:
            raise BackendError(f"the adapter has {name}; this model trains no such module (train_attn, _mlp, _unembed)")
        if value.shape != mine[name].shape:
            raise BackendError(f"{name} has shape {list(value.shape)}, this model expects {list(mine[name].shape)}")


def _tensors(held: LiveModel) -> dict[str, Tensor]:
    from peft import get_peft_model_state_dict

    with quiet():
        return get_peft_model_state_dict(held.model, save_embedding_layers=False)  # type: ignore[no-any-return]
