"""Every server-side loss of WIRE 2.8 as a pure function from log-probabilities to one summand per position.

The loss of a request is the sum of its summands, never a mean, so it does not depend on how datums are chunked.
N counts real positions. In the formulas lp is the log-probability of the target, old the `logprobs` tensor, A the
`advantages` tensor, d = lp - old and r = exp(clamp(d)); a position is active when A is not 0.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from emulator.backend import BackendError

Config = Mapping[str, float]
Summands = Callable[[Tensor, Mapping[str, Tensor], Config, Tensor], Tensor]


@dataclass(frozen=True)
class Key:
    """A number that `loss_fn_config` may hold, with its default (None: not applied) and its range."""

    default: float | None
    low: float
    high: float = math.inf
    low_allowed: bool = True

    def check(self, name: str, value: Any) -> float:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
        if not (math.isfinite(number) and (self.low < number or (self.low_allowed and self.low == number))):
            number = math.nan
        if not number <= self.high:
            opening = "[" if self.low_allowed else "("
            raise BackendError(f"loss_fn_config.{name} = {value!r} is outside {opening}{self.low:g}, {self.high:g}]")
        return number


@dataclass(frozen=True)
class Loss:
    """A loss: its summands, the tensors a datum must have, and the keys it can be tuned with."""

    summands: Summands
    tensors: tuple[str, ...] = ()
    keys: Mapping[str, Key] = field(default_factory=dict)
    multi_target: bool = False
    whole_rows: bool = False
    """True where a summand depends on the other positions of its datum: no slope is known before all of them are."""

    @property
    def acting(self) -> str:
        """The tensor that a position's summand is multiplied by."""
        return "advantages" if "advantages" in self.tensors else "weights"

    def configure(self, config: Mapping[str, Any]) -> dict[str, float]:
        """Checked settings with defaults filled in; raises `BackendError` on a key this loss does not know."""
        unknown = sorted(set(config) - set(self.keys))
        if unknown:
            known = ", ".join(self.keys) or "none"
            raise BackendError(f"unknown loss_fn_config key {unknown[0]!r}; known here: {known}")
        settings = {name: key.default for name, key in self.keys.items()}
        settings |= {name: self.keys[name].check(name, value) for name, value in config.items()}
        if settings.get("clip_low_threshold", 0) > settings.get("clip_high_threshold", math.inf):  # type: ignore[operator]
            raise BackendError("clip_low_threshold is above clip_high_threshold")
        return {name: value for name, value in settings.items() if value is not None}


def cross_entropy(lp: Tensor, tensors: Mapping[str, Tensor], config: Config, row: Tensor) -> Tensor:
    """-w lp for any real w; absent weights are ones; (N, K) targets are K weighted terms."""
    weights = tensors.get("weights")
    return -lp if weights is None else -weights * lp


def importance_sampling(lp: Tensor, tensors: Mapping[str, Tensor], config: Config, row: Tensor) -> Tensor:
    """-r A, with the gradient through r."""
    return -_ratio(lp, tensors, config) * tensors["advantages"]


def ppo(lp: Tensor, tensors: Mapping[str, Tensor], config: Config, row: Tensor) -> Tensor:
    """max(-r A, -clamp(r) A): the clipped surrogate of Schulman et al. 2017."""
    return _clipped(_ratio(lp, tensors, config), tensors["advantages"], config)


def dapo(lp: Tensor, tensors: Mapping[str, Tensor], config: Config, row: Tensor) -> Tensor:
    """PPO whose loss is capped at -c A where A < 0 (dual clip), when `eps_clip_c` is given."""
    term, advantages = ppo(lp, tensors, config, row), tensors["advantages"]
    if "eps_clip_c" not in config:
        return term
    return torch.where(advantages < 0, torch.minimum(-config["eps_clip_c"] * advantages, term), term)


def cispo(lp: Tensor, tensors: Mapping[str, Tensor], config: Config, row: Tensor) -> Tensor:
    """-stop(clamp(r)) lp A: clipped importance weights, every token keeps its gradient."""
    ratio = _ratio(lp.detach(), tensors, config)
    return -ratio.clamp(config["clip_low_threshold"], config["clip_high_threshold"]) * lp * tensors["advantages"]


def dro(lp: Tensor, tensors: Mapping[str, Tensor], config: Config, row: Tensor) -> Tensor:
    """-(lp A - beta/2 d²), the quadratic term on active positions only."""
    advantages = tensors["advantages"]
    distance = torch.where(advantages != 0, lp - tensors["logprobs"], 0.0)
    return -(lp * advantages - 0.5 * config["beta"] * distance.square())


def gspo(lp: Tensor, tensors: Mapping[str, Tensor], config: Config, row: Tensor) -> Tensor:
    """PPO on the sequence ratio: the mean of d over a datum's active positions, gradient through each token's lp."""
    advantages = tensors["advantages"]
    active = (advantages != 0).to(lp.dtype)
    datums = int(row.max()) + 1
    zeros = lp.new_zeros(datums)
    total = zeros.index_add(0, row, (lp.detach() - tensors["logprobs"]) * active)
    mean = total / zeros.index_add(0, row, active).clamp(min=1)
    log_ratio = lp - lp.detach() + mean[row]
    return _clipped(log_ratio.clamp(max=config["seq_ratio_log_cap"]).exp(), advantages, config)


def dppo(lp: Tensor, tensors: Mapping[str, Tensor], config: Config, row: Tensor) -> Tensor:
    """-r A, masked where r leaves the trust region |exp(lp) - exp(old)| <= threshold in the direction A pushes it.

    The binary total-variation form of Divergence PPO (Qi et al. 2026, "Rethinking the Trust Region in LLM Reinforcement
    Learning"). No client publishes config keys for this loss (WIRE 2.8), so `divergence_threshold` is ours.
    """
    ratio, advantages = _ratio(lp, tensors, config), tensors["advantages"]
    outside = (lp.detach().exp() - tensors["logprobs"].exp()).abs() > config["divergence_threshold"]
    leaving = torch.where(advantages > 0, ratio.detach() > 1, ratio.detach() < 1)
    return torch.where(outside & leaving, 0.0, -ratio * advantages)


def reinforce(lp: Tensor, tensors: Mapping[str, Tensor], config: Config, row: Tensor) -> Tensor:
    """-A lp."""
    return -tensors["advantages"] * lp


def _ratio(lp: Tensor, tensors: Mapping[str, Tensor], config: Config) -> Tensor:
    cap = config["ratio_log_cap"]
    return (lp - tensors["logprobs"]).clamp(-cap, cap).exp()


def _clipped(ratio: Tensor, advantages: Tensor, config: Config) -> Tensor:
    clipped = ratio.clamp(config["clip_low_threshold"], config["clip_high_threshold"])
    return torch.maximum(-ratio * advantages, -clipped * advantages)


_CAP = {"ratio_log_cap": Key(20.0, 0, 80, low_allowed=False)}
_CLIP = {"clip_low_threshold": Key(0.8, 0), "clip_high_threshold": Key(1.2, 0, low_allowed=False)}
_POLICY = ("logprobs", "advantages")

LOSSES: Mapping[str, Loss] = {
    "cross_entropy": Loss(cross_entropy, multi_target=True),
    "importance_sampling": Loss(importance_sampling, _POLICY, _CAP),
    "ppo": Loss(ppo, _POLICY, _CLIP | _CAP),
    "cispo": Loss(cispo, _POLICY, _CLIP | {"clip_high_threshold": Key(1.28, 0, low_allowed=False)} | _CAP),
    "dro": Loss(dro, _POLICY, {"beta": Key(0.05, 0)}),
    "dapo": Loss(dapo, _POLICY, _CLIP | _CAP | {"eps_clip_c": Key(None, 1, low_allowed=False)}),
    "gspo": Loss(gspo, _POLICY, _CLIP | {"seq_ratio_log_cap": Key(10.0, 0, 80, low_allowed=False)}, whole_rows=True),
    "dppo": Loss(dppo, _POLICY, _CAP | {"divergence_threshold": Key(0.15, 0, 1)}),
    "reinforce": Loss(reinforce, ("advantages",)),
}


def named(name: Any) -> Loss:
    """The loss called `name`; raises `BackendError` naming those that exist."""
    if not isinstance(name, str) or name not in LOSSES:
        raise BackendError(f"unknown loss_fn {name!r}; known ones are {', '.join(LOSSES)}")
    return LOSSES[name]
