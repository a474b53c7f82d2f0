"""Low-rank adapters, through peft or as peft has them: where they sit, how they start, whether they change anything."""

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from emulator.backend import BackendError, LoraSpec
from ftsim.compute import libraries
from ftsim.compute.checkpoints.source import is_tied
from ftsim.compute.images.sight import sees
from ftsim.compute.quiet import quiet
from ftsim.compute.standins.adapters import AdaptedStandIn
from ftsim.compute.standins.model import StandIn

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

ADAPTER = "default"
_log = logging.getLogger(__name__)
_MIXERS = dict.fromkeys(("falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"), "out_proj")
"""Families whose fused kernels read a weight past an adapter on it: peft 0.21 refuses one there, so it is left out."""
_EXPERT_WEIGHTS = ("gate_up_proj", "down_proj")


def attach(model: "PreTrainedModel", spec: LoraSpec) -> "PeftModel":
    """Freeze `model` and put adapters of `spec.rank` on it; equal seeds give equal adapters on every device."""
    modules, parameters = targets(model, spec)
    if not modules and not parameters:
        raise BackendError(
            "LoRA needs at least one of train_attn, train_mlp, train_unembed; a tied output layer is not adapted"
        )
    if not isinstance(model, StandIn):
        libraries.load()  # before the seed: an import may draw
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed or 0)
        wrapped = _wrapped(model, spec, modules, parameters)
        if spec.init_method == "nora":
            _normalise_inputs(wrapped)
        elif spec.init_method not in (None, "kaiming"):
            raise BackendError(f"unknown LoRA init_method {spec.init_method!r}; known ones are kaiming, nora")
    return wrapped


def _wrapped(model: Any, spec: LoraSpec, modules: list[str], parameters: list[str]) -> "PeftModel":
    """Adapters that have been started, by peft or as peft would."""
    if isinstance(model, StandIn):
        adapted = AdaptedStandIn(model, spec.rank, spec.alpha, modules, parameters)
        adapted.start()
        return cast("PeftModel", adapted)
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=spec.rank,
        lora_alpha=spec.alpha,
        target_modules=modules,
        target_parameters=parameters or None,
        task_type="CAUSAL_LM",
    )
    try:
        return cast("PeftModel", get_peft_model(model, config))
    except ValueError as error:  # a family that peft has a rule about
        reason = str(error).partition("\n")[0]
        raise BackendError(f"peft puts no adapter on {model.config.model_type}: {reason}") from error


def set_alpha(model: "PeftModel | AdaptedStandIn", rank: int, alpha: float) -> None:
    """Let the adapters be multiplied by alpha / rank from now on, and say so in what is saved."""
    if isinstance(model, AdaptedStandIn):
        model.set_alpha(alpha)
        return
    from peft.tuners.lora import LoraLayer

    config = model.peft_config[ADAPTER]
    factor = alpha / config.lora_alpha  # two of an expert's matrices in one have twice the rank, and twice the alpha
    config.lora_alpha = alpha
    config.alpha_pattern = {name: other * factor for name, other in config.alpha_pattern.items()}
    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.lora_alpha[ADAPTER], module.scaling[ADAPTER] = alpha * module.r[ADAPTER] / rank, alpha / rank


def targets(model: "PreTrainedModel", spec: LoraSpec) -> tuple[list[str], list[str]]:
    """Names of the linear modules, and of the fused expert weights, that `spec` asks to train."""
    unembed = model.get_output_embeddings()
    tied = is_tied(model)
    if tied and spec.train_unembed:
        _log.warning(
            "%s ties its output layer to its embeddings: the adapter leaves it out, since merging one would move both",
            model.config.model_type,
        )
    sighted = sees({"model_type": model.config.model_type})  # its tower stays as it is: adapters are on what reads
    left_out = _MIXERS.get(model.config.get_text_config().model_type, "")
    chosen = {
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and type(module).forward is nn.Linear.forward  # a router that returns more than a product takes no adapter
        and name.rpartition(".")[2] != left_out
        and not (sighted and ".visual." in name)
        and (
            spec.train_unembed and not tied
            if module is unembed
            else spec.train_attn
            if _is_attention(name)
            else spec.train_mlp
        )
    }
    experts = sorted(
        {
            f"experts.{leaf}"
            for name, parameter in model.named_parameters()
            if (leaf := name.rpartition(".")[2]) in _EXPERT_WEIGHTS and parameter.dim() == 3 and ".experts." in name
        }
    )
    everything = [name for name, _ in model.named_modules()]
    return _shortest(chosen, everything), experts if spec.train_mlp else []


def changes_nothing(model: nn.Module) -> bool:
    """Tell whether every adapter's product B A is exactly zero, as it is before the first step (FAILURES B10)."""
    return not any("lora_B" in name and bool(value.any()) for name, value in model.named_parameters())


def _is_attention(name: str) -> bool:
    return any(part.endswith("attn") or "attention" in part for part in name.split("."))


def _shortest(chosen: set[str], everything: Iterable[str]) -> list[str]:
    """Leaf names such as `q_proj`, unless a leaf name also occurs on a module that was not chosen."""
    rest = {name.rpartition(".")[2] for name in everything if name not in chosen}
    return sorted({leaf if (leaf := name.rpartition(".")[2]) not in rest else name for name in chosen})


def _normalise_inputs(model: nn.Module) -> None:
    """NoRA start: each input column of A gets length 1 over the rank."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_A" in name:
                value.div_(value.norm(dim=0, keepdim=True).clamp(min=1e-12))
