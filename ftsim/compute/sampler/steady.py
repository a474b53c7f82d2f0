"""Sampling that does not depend on company: small models compute in float64, so that batches leave no trace.

A float32 matrix product gives a row other last bits when it is computed with other rows, so a sample's log-probability
would depend on which requests happened to share a step. In float64 what differs lies far below what float32, in which
log-probabilities are handed out, can show: a resumed run sees the very numbers of the uninterrupted one.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LARGEST_BYTES = 64 << 20
"""Weight files beyond which speed matters more."""


def wanted(folder: Path, device: str, dtype: torch.dtype) -> bool:
    """Whether the model in `folder` is served in float64: small, on a CPU, and not asked for in a coarser type."""
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return device == "cpu" and dtype == torch.float32 and size <= LARGEST_BYTES


def steady(model: "PreTrainedModel") -> "PreTrainedModel":
    """The model in float64, in place; its norms too, which transformers computes in float32 whatever the model is."""
    model.double()
    if getattr(model.config, "_experts_implementation", None) is not None:
        model.set_experts_implementation("eager")  # the fused product knows no float64
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.__class__ = _wide_norm(type(module))
    return model


def _wide_norm(norm: type[nn.Module]) -> type[nn.Module]:
    """`norm` without its detour over float32; a class rather than a patched object, so that copies work."""

    def forward(self: Any, hidden: Tensor) -> Tensor:
        variance = hidden.square().mean(-1, keepdim=True)
        result: Tensor = self.weight * (hidden * torch.rsqrt(variance + self.variance_epsilon))
        return result

    return type(f"Wide{norm.__name__}", (norm,), {"forward": forward})
