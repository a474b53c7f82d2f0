"""From rewards to advantages, and from advantages to the datums of the policy losses ."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

from ftsim.training.checks import check_choice
from ftsim.training.clients import TrainingClient
from ftsim.training.data.store import datum
from ftsim.training.data.turns import Example
from ftsim.training.errors import ConfigError
from ftsim.training.sampling.rollouts import Sample
from ftsim.training.sdk import types

POLICY_LOSSES: Mapping[str, tuple[str, Mapping[str, float]]] = {
    "grpo": ("ppo", {}),
    "ppo": ("ppo", {}),
    "dapo": ("dapo", {"clip_high_threshold": 1.28, "eps_clip_c": 3.0}),
    "gspo": ("gspo", {}),
    "cispo": ("cispo", {}),
    "dro": ("dro", {}),
    "dppo": ("dppo", {}),
    "importance_sampling": ("importance_sampling", {}),
    "reinforce": ("reinforce", {}),
}
"""Name in a configuration -> the server's loss and the settings that differ from its defaults.

dapo clips higher than lower and caps the loss of bad samples (Yu et al. 2025, "DAPO"; dual clip of Ye et al. 2020).
"""


_CLIPS = ("clip_low_threshold", "clip_high_threshold")
LOSS_SETTINGS: Mapping[str, tuple[str, ...]] = {
    "ppo": (*_CLIPS, "ratio_log_cap"),
    "dapo": (*_CLIPS, "ratio_log_cap", "eps_clip_c"),
    "gspo": (*_CLIPS, "seq_ratio_log_cap"),
    "cispo": (*_CLIPS, "ratio_log_cap"),
    "dro": ("beta",),
    "dppo": ("ratio_log_cap", "divergence_threshold"),
    "importance_sampling": ("ratio_log_cap",),
    "reinforce": (),
}
"""The server's loss -> what `loss_config` may set; it would refuse another name only once samples are paid for."""


def check_loss(policy_loss: str, loss_config: Mapping[str, float]) -> None:
    """Refuse a loss, or a setting of it, that the server has not."""
    check_choice("policy_loss", policy_loss, POLICY_LOSSES)
    known = LOSS_SETTINGS[POLICY_LOSSES[policy_loss][0]]
    for name, value in loss_config.items():
        if name not in known:
            raise ConfigError(
                f"loss_config.{name}: {policy_loss} has no such setting, only {', '.join(known) or 'none'}"
            )
        if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
            raise ConfigError(f"loss_config.{name} must be a finite number, not {value!r}")


@dataclass(frozen=True)
class Scored:
    """A sample with the advantage that all of its tokens share."""

    sample: Sample
    advantage: float


def normalised(values: Sequence[float]) -> list[float]:
    """Returns values less their mean, over their deviation; zeros when all are equal (Shao et al. 2024, GRPO)."""
    mean = math.fsum(values) / len(values)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
    if deviation < 1e-8:
        return [0.0] * len(values)
    return [(value - mean) / deviation for value in values]


def discounted(values: Sequence[float], discount: float) -> list[float]:
    """Returns each turn's value plus what its later turns bring, discounted per turn."""
    totals: list[float] = []
    for value in reversed(values):
        totals.append(value + discount * (totals[-1] if totals else 0.0))
    return totals[::-1]


def completion_logprobs(client: TrainingClient, samples: Sequence[Sample]) -> list[list[float]]:
    """Returns the log-probabilities that the client's model gives to the tokens of each sample; changes no gradient."""
    data = [
        datum(Example([*one.prompt, *one.tokens], [0.0] * len(one.prompt) + [1.0] * len(one.tokens))) for one in samples
    ]
    outputs = client.forward(data, "cross_entropy").result().loss_fn_outputs if data else []
    return [
        [float(value) for value in output["logprobs"].data[-len(one.tokens) :]]
        for one, output in zip(samples, outputs, strict=True)
    ]


def under_policy(client: TrainingClient, scored: Sequence[Scored]) -> list[Scored]:
    """Returns the same samples with the log-probabilities of the client's own model, at temperature 1.

    At another temperature a sample's own are those of a sharper or flatter distribution, which the trainer's losses and
    a reference know nothing of: before its first step a policy would seem to have left itself.
    """
    found = completion_logprobs(client, [one.sample for one in scored])
    return [
        replace(one, sample=replace(one.sample, logprobs=logprobs)) for one, logprobs in zip(scored, found, strict=True)
    ]


def policy_data(
    scored: Sequence[Scored],
    reference: Sequence[Sequence[float]] | None = None,
    kl_beta: float = 0.0,
    own: Sequence[Sequence[float]] | None = None,
) -> list[Any]:
    """Returns the datums of a policy loss; prompt positions have advantage 0 and so no part in it.

    With a reference model's log-probabilities every token's advantage is lowered by kl_beta * (own - reference), where
    `own` are those of the policy that is trained; None when that is the policy that sampled. The gradient this adds is
    that of the Kullback-Leibler divergence per token.
    """
    sampled = [one.sample.logprobs for one in scored]
    policy, references = own or sampled, reference if reference is not None else own or sampled
    return [_datum(*each, kl_beta) for each in zip(scored, policy, references, strict=True)]


def kl_estimate(
    scored: Sequence[Scored], reference: Sequence[Sequence[float]], own: Sequence[Sequence[float]] | None = None
) -> float:
    """Returns the mean of own - reference over the sampled tokens, in nats; `own` as in `policy_data`.

    An unbiased estimate of the divergence for what was sampled at temperature 1 by the policy that `own` is of; at
    another temperature, or from another policy, the mean over what that favours.
    """
    policy = own or [one.sample.logprobs for one in scored]
    gaps = [
        mine - reference_logprob
        for ours, theirs in zip(policy, reference, strict=True)
        for mine, reference_logprob in zip(ours, theirs, strict=True)
    ]
    return math.fsum(gaps) / len(gaps) if gaps else 0.0


def _datum(one: Scored, own: Sequence[float], reference: Sequence[float], kl_beta: float) -> Any:
    sample = one.sample
    tokens = [*sample.prompt, *sample.tokens]
    before = [0.0] * (len(sample.prompt) - 1)
    gaps = [mine - reference_logprob for mine, reference_logprob in zip(own, reference, strict=True)]
    advantages = before + [one.advantage - kl_beta * gap for gap in gaps]
    length = len(tokens) - 1
    return types.Datum(
        model_input=types.ModelInput.from_ints(tokens[:-1]),  # (T,)
        loss_fn_inputs={
            "target_tokens": types.TensorData(data=tokens[1:], dtype="int64", shape=[length]),
            "logprobs": types.TensorData(data=before + list(sample.logprobs), dtype="float32", shape=[length]),
            "advantages": types.TensorData(data=advantages, dtype="float32", shape=[length]),
        },
    )
