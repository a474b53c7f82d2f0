"""Losses of the light backend: the summand of a position and its slope, by the log-probability lp of the target.

The same formulas, defaults and names as the losses of WIRE 2.8, for those that need nothing but the position itself:
old is the `logprobs` tensor, A the `advantages` tensor, r = exp(clamp(lp - old)).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from emulator.backend import BackendError


class Position(NamedTuple):
    """Holds the entries of a datum's tensors for one target."""

    weight: float = 1.0
    old: float = 0.0
    advantage: float = 0.0


Settings = Mapping[str, float]
Summand = Callable[[float, Position, Settings], tuple[float, float]]


def cross_entropy(lp: float, at: Position, settings: Settings) -> tuple[float, float]:
    """-w lp for any real w."""
    return -at.weight * lp, -at.weight


def importance_sampling(lp: float, at: Position, settings: Settings) -> tuple[float, float]:
    """-r A, with the gradient through r."""
    ratio, slope = _ratio(lp, at, settings)
    return -ratio * at.advantage, -slope * at.advantage


def ppo(lp: float, at: Position, settings: Settings) -> tuple[float, float]:
    """max(-r A, -clamp(r) A): the clipped surrogate of Schulman et al. 2017."""
    ratio, slope = _ratio(lp, at, settings)
    clipped = min(max(ratio, settings["clip_low_threshold"]), settings["clip_high_threshold"])
    free, bound = -ratio * at.advantage, -clipped * at.advantage
    return (free, -slope * at.advantage) if free >= bound else (bound, 0.0)


def reinforce(lp: float, at: Position, settings: Settings) -> tuple[float, float]:
    """-A lp."""
    return -at.advantage * lp, -at.advantage


def _ratio(lp: float, at: Position, settings: Settings) -> tuple[float, float]:
    cap, distance = settings["ratio_log_cap"], lp - at.old
    ratio = math.exp(min(max(distance, -cap), cap))
    return ratio, ratio if -cap <= distance <= cap else 0.0


@dataclass(frozen=True)
class Loss:
    """A loss: its summand, the tensors a datum must have beside its targets, and its settings with their defaults."""

    summand: Summand
    tensors: tuple[str, ...] = ()
    defaults: Settings = field(default_factory=dict)


_CAP = {"ratio_log_cap": 20.0}
_CLIP = {"clip_low_threshold": 0.8, "clip_high_threshold": 1.2}
_POLICY = ("logprobs", "advantages")
CROSS_ENTROPY = Loss(cross_entropy)
LOSSES: Mapping[str, Loss] = {
    "cross_entropy": CROSS_ENTROPY,
    "importance_sampling": Loss(importance_sampling, _POLICY, _CAP),
    "ppo": Loss(ppo, _POLICY, {**_CLIP, **_CAP}),
    "reinforce": Loss(reinforce, ("advantages",)),
}


def configured(batch: Mapping[str, Any]) -> tuple[Loss, Settings]:
    """The loss that a request names and its settings; raises BackendError for what is not computed here."""
    name, given = batch.get("loss_fn", "cross_entropy"), batch.get("loss_fn_config") or {}
    if not isinstance(name, str) or name not in LOSSES:
        raise BackendError(
            f"the light backend does not compute loss_fn {str(name)[:60]!r}: it has {', '.join(LOSSES)}; "
            "the backend with real models has every loss"
        )
    loss = LOSSES[name]
    for key, value in given.items() if isinstance(given, Mapping) else [("loss_fn_config", given)]:
        if key not in loss.defaults:
            known = ", ".join(loss.defaults) or "none"
            raise BackendError(f"unknown loss_fn_config key {str(key)[:60]!r}; the light backend's {name} has {known}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 80:
            raise BackendError(f"loss_fn_config.{key} is {str(value)[:60]!r}: a number from 0 to 80 is wanted")
    return loss, {**loss.defaults, **given}
