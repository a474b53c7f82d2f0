"""AdamW's settings and their defaults: for the bodies of requests, the platform and everything that computes."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from emulator.core.settings import setting


@dataclass(frozen=True)
class AdamSettings:
    """The settings of one step; the defaults are the client's (WIRE 2.9)."""

    learning_rate: float = setting(1e-4)
    beta1: float = setting(0.9)
    beta2: float = setting(0.95)
    eps: float = setting(1e-12)
    weight_decay: float = setting(0.0)
    grad_clip_norm: float = setting(0.0)
    """Largest global gradient norm; 0 means no clipping."""


ADAM: Mapping[str, float] = asdict(AdamSettings())
NORMALIZATIONS = ("none", "num_loss_tokens", "num_sequences")
"""The names of what the accumulated gradients may be divided by."""
