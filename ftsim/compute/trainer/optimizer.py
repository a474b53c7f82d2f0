"""One AdamW step as WIRE 2.9 asks for it: normalise, measure, clip, step."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from emulator.backend import BackendError
from emulator.core.adam import AdamSettings
from ftsim.compute.trainer import shards

_MODES = {None: "norm", False: "off", True: "basic", "off": "off", "basic": "basic", "detailed": "detailed"}
_BUCKETS = ("embed", "attn", "experts", "mlp", "norm", "lm_head", "projection")


@dataclass(frozen=True)
class AdamParams(AdamSettings):
    """Settings of one step, and which norms are wanted of it."""

    emit_grad_norm_metrics: str = "norm"

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> "AdamParams":
        """From JSON; raises `BackendError` on a key or a value that AdamW cannot take."""
        unknown = sorted(set(raw) - set(cls.__dataclass_fields__))
        if unknown:
            raise BackendError(f"unknown adam_params key {unknown[0]!r}; known: {', '.join(cls.__dataclass_fields__)}")
        mode = raw.get("emit_grad_norm_metrics")
        if not (mode is None or isinstance(mode, bool | str)) or mode not in _MODES:
            raise BackendError(f"emit_grad_norm_metrics is {mode!r}; expected off, basic or detailed")
        numbers = {k: v for k, v in raw.items() if k != "emit_grad_norm_metrics" and v is not None}
        for name, value in numbers.items():
            number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            below_one = not name.startswith("beta") or (number and value < 1)
            if not number or value < 0 or not below_one or (name == "eps" and value == 0):
                raise BackendError(f"adam_params.{name} = {value!r} is out of range")
        return cls(**{k: float(v) for k, v in numbers.items()}, emit_grad_norm_metrics=_MODES[mode])


class AdamW:
    """`torch.optim.AdamW` by torch's function: to make one of its class imports torch's compiler, a second of CPU."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._parameters = parameters
        self.state: dict[Tensor, dict[str, Tensor]] = {}
        """`step`, `exp_avg` and `exp_avg_sq` of each parameter that has taken a step."""

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for value in self._parameters:
            value.grad = None

    @torch.no_grad()
    def step(self, params: AdamParams) -> None:
        """Move every parameter that has a gradient."""
        moved = [value for value in self._parameters if value.grad is not None]
        for value in moved:
            if value not in self.state:
                self.state[value] = {
                    "step": torch.zeros((), dtype=torch.float32),
                    "exp_avg": torch.zeros_like(value, memory_format=torch.preserve_format),
                    "exp_avg_sq": torch.zeros_like(value, memory_format=torch.preserve_format),
                }
        states = [self.state[value] for value in moved]
        adamw(
            shards.locals_of(moved),
            shards.locals_of(value.grad for value in moved if value.grad is not None),
            shards.locals_of(state["exp_avg"] for state in states),
            shards.locals_of(state["exp_avg_sq"] for state in states),
            [],
            [state["step"] for state in states],
            amsgrad=False,
            beta1=params.beta1,
            beta2=params.beta2,
            lr=params.learning_rate,
            weight_decay=params.weight_decay,
            eps=params.eps,
            maximize=False,
        )


def create(parameters: Sequence[Tensor]) -> AdamW:
    """A fresh AdamW over the trained parameters; the rates are set at every step."""
    return AdamW(parameters)


def apply(optimizer: AdamW, named: Mapping[str, Tensor], params: AdamParams, divisor: int) -> dict[str, float]:
    """Divide the gradients by `divisor`, clip, step and clear them; returns the measured norms.

    Raises `BackendError` and drops the gradients when their norm overflows: no step could ever use them.
    """
    grads = [value.grad for value in named.values() if value.grad is not None]
    if divisor > 1:
        torch._foreach_div_(shards.locals_of(grads), float(divisor))
    metrics: dict[str, float] = {}
    if params.grad_clip_norm > 0 or params.emit_grad_norm_metrics != "off":
        norm = shards.total_norm(grads)
        if not torch.isfinite(norm):
            optimizer.zero_grad()
            raise BackendError("the gradient norm is not finite; the accumulated gradients were dropped")
        metrics = _measure(named, params, float(norm))
        if params.grad_clip_norm > 0:
            shards.clip(named, params.grad_clip_norm, norm)
            metrics |= _after_clipping(params, float(norm))
    optimizer.step(params)
    optimizer.zero_grad()
    return metrics


def _measure(named: Mapping[str, Tensor], params: AdamParams, norm: float) -> dict[str, float]:
    mode = params.emit_grad_norm_metrics
    if mode == "off":
        return {}
    metrics = {"grad_norm": norm}
    if mode in ("basic", "detailed"):
        metrics["grad_norm_rms"] = norm / math.sqrt(sum(value.numel() for value in named.values()))
    if mode == "detailed":
        for bucket in _BUCKETS:
            grads = [v.grad for name, v in named.items() if v.grad is not None and _bucket(name) == bucket]
            if grads:
                metrics[f"grad_norm_{bucket}"] = float(shards.total_norm(grads))
    return metrics


def _after_clipping(params: AdamParams, norm: float) -> dict[str, float]:
    if params.emit_grad_norm_metrics == "off":
        return {}
    return {"grad_norm_post_clip": norm * min(1.0, params.grad_clip_norm / (norm + 1e-6))}


def _bucket(name: str) -> str:
    return next((bucket for bucket in _BUCKETS if bucket in name.replace("post_attention_layernorm", "norm")), "other")
