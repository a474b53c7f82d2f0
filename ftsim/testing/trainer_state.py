"""Reads what a trainer of an emulator in this process really holds from its memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from emulator.server import Emulator
from ftsim.compute.sampler.weights import digest
from ftsim.compute.trainer.live import LiveModel
from ftsim.testing.tiny import tiny_model


@dataclass(frozen=True)
class TrainerState:
    """A model on a trainer at one moment.

    `state` covers trained weights, optimizer moments and step; `exported` what a sampler save must contain (the adapter
    on LoRA); `touched`: an adapter that changes something; `fresh`: no
    optimizer moments yet; `merged` the adapter folded into the base, None on full-parameter models.
    """

    state: str
    exported: str
    step: int
    touched: bool
    fresh: bool
    merged: Mapping[str, Tensor] | None = None


def live_model(emulator: Emulator, model_id: str) -> LiveModel:
    """The model in its trainer's memory; raises LookupError."""
    for trainer in emulator.platform.trainers._running.values():
        if model_id in trainer.models:
            backend: Any = trainer.backend
            found: LiveModel = backend._models[model_id]
            return found
    raise LookupError(f"no trainer has the model {model_id}")


def read_state(live: LiveModel) -> TrainerState:
    """Read everything of a live model; nothing changes."""
    fresh = not live.optimizer.state
    with torch.no_grad():
        if live.spec.lora is None:
            weights = {name: value.detach() for name, value in live.model.state_dict().items()}
            return TrainerState(_state(live), digest(weights), live.step, True, fresh)
        adapter = {_peft_name(name): value.detach() for name, value in live.trained.items()}
        touched = any(bool(value.any()) for name, value in adapter.items() if ".lora_B" in name)
        return TrainerState(_state(live), digest(adapter), live.step, touched, fresh, _merge(live, adapter))


def _state(live: LiveModel) -> str:
    """Trained weights, both moments of each, and the step."""
    tensors = {f"w {name}": value.detach() for name, value in live.trained.items()}
    for name, value in live.trained.items():
        for key, moment in live.optimizer.state.get(value, {}).items():
            tensors[f"{key} {name}"] = moment
    return digest({**tensors, "step": torch.tensor(live.step)})


def _peft_name(name: str) -> str:
    return name.replace(".default", "")


def _merge(live: LiveModel, adapter: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """W + alpha / r * B A over the tiny model, by hand."""
    assert live.spec.lora is not None
    weights = dict(_base())
    scale = live.spec.lora.alpha / live.spec.lora.rank
    for name, a in adapter.items():
        if ".lora_A" in name:
            target = name.removeprefix("base_model.model.").replace(".lora_A", "")
            weights[target] = weights[target] + scale * (adapter[name.replace("lora_A", "lora_B")] @ a)
    return weights


@cache
def _base() -> Mapping[str, Tensor]:
    from safetensors.torch import load_file

    base: dict[str, Tensor] = load_file(tiny_model() / "model.safetensors")
    return base
