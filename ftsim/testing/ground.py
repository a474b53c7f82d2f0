"""The ground truth: what a trainer and a replica of an emulator in this process really hold, read from memory."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emulator.server import Emulator
from ftsim.compute.sampler.weights import digest
from ftsim.compute.trainer.live import LiveModel
from ftsim.testing.tiny import tiny_model


@dataclass(frozen=True)
class Truth:
    """What a trainer holds at one moment.

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


def live_model(emulator: Emulator, job: str, model_id: str) -> LiveModel:
    """The model in the trainer's memory; raises NotFound for a job without a trainer, KeyError for an unknown model."""
    trainer: Any = emulator.platform.trainers.of(emulator.platform.jobs.get(emulator.account, job)).backend
    held: LiveModel = trainer._models[model_id]
    return held


def look(held: LiveModel) -> Truth:
    """Read everything from a live model; nothing changes."""
    fresh = not held.optimizer.state
    with torch.no_grad():
        if held.spec.lora is None:
            weights = {name: value.detach() for name, value in held.model.state_dict().items()}
            return Truth(_state(held), digest(weights), held.step, True, fresh)
        adapter = {_peft_name(name): value.detach() for name, value in held.trained.items()}
        touched = any(bool(value.any()) for name, value in adapter.items() if ".lora_B" in name)
        return Truth(_state(held), digest(adapter), held.step, touched, fresh, _merge(held, adapter))


def _state(held: LiveModel) -> str:
    """Trained weights, both moments of each, and the step."""
    tensors = {f"w {name}": value.detach() for name, value in held.trained.items()}
    for name, value in held.trained.items():
        for key, moment in held.optimizer.state.get(value, {}).items():
            tensors[f"{key} {name}"] = moment
    return digest({**tensors, "step": torch.tensor(held.step)})


def _peft_name(name: str) -> str:
    return name.replace(".default", "")


def _merge(held: LiveModel, adapter: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """W + alpha / r * B A over the tiny model, by hand."""
    assert held.spec.lora is not None
    weights = dict(_base())
    scale = held.spec.lora.alpha / held.spec.lora.rank
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


def check_close(folder: Path, wanted: Mapping[str, Tensor]) -> None:
    """The files hold these tensors, up to rounding; raises AssertionError."""
    from safetensors.torch import load_file

    found: dict[str, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= load_file(path)
    assert found.keys() == wanted.keys(), f"{folder.name} holds other tensors: {sorted(found.keys() ^ wanted.keys())}"
    for name, value in found.items():
        assert torch.allclose(value, wanted[name], rtol=1e-5, atol=1e-6), f"{name} of {folder.name} is not merged"


def served(full: str, adapter: str | None) -> str:
    """What `Replica.fingerprint` says of full weights and maybe an adapter, by their digests."""
    return hashlib.sha256("".join(filter(None, (full, adapter))).encode()).hexdigest()
