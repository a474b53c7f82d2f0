"""The losses of DPO and ORPO, computed on this side from the log-probabilities the trainer returns.

Each is a callable for the SDK's `forward_backward_custom`, which sends the gradient back (WIRE 2.8). Batches are
2N datums, chosen and rejected in turn; a datum's `weights` mark the answer's tokens.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ftsim.training.data.preferences import Pair, as_data
from ftsim.training.steps import CustomLoss

ACCURACIES = {"accuracy": "training", "eval_accuracy": "held out"}
# The odds p / (1 - p) of an answer that is certain must stay finite.
_ALMOST_CERTAIN = -1e-6


def dpo_loss(pairs: Sequence[Pair], *, beta: float, label_smoothing: float, divisor: int) -> CustomLoss:
    """Direct preference optimisation (Rafailov et al. 2023, equation 7), divided by `divisor`.

    Every pair carries its reference log-probabilities. With `label_smoothing` e a share e of the preferences counts as
    reversed (Mitchell 2023, conservative DPO).
    """
    reference = [pair.reference for pair in pairs]

    def loss(data: list[Any], logprobs: list[Tensor]) -> tuple[Tensor, dict[str, float]]:
        policy = torch.stack([summed(lp, datum) for lp, datum in zip(logprobs, data, strict=True)]).view(-1, 2)
        rewards = beta * (policy - torch.tensor(reference, dtype=policy.dtype))  # (N, 2)
        margin = rewards[:, 0] - rewards[:, 1]  # (N,)
        losses = -(1 - label_smoothing) * logsigmoid(margin) - label_smoothing * logsigmoid(-margin)
        return losses.sum() / divisor, _metrics(losses, rewards)

    return loss


def orpo_loss(*, odds_weight: float, divisor: int) -> CustomLoss:
    """Odds-ratio preference optimisation (Hong et al. 2024, equation 6), divided by `divisor`.

    The negative log-likelihood per token of the chosen answer, plus `odds_weight` times the negative log-sigmoid of
    the log odds ratio; a probability is the geometric mean over an answer's tokens. No reference model.
    """

    def loss(data: list[Any], logprobs: list[Tensor]) -> tuple[Tensor, dict[str, float]]:
        means = torch.stack([averaged(lp, datum) for lp, datum in zip(logprobs, data, strict=True)]).view(-1, 2)
        log_odds = means - torch.log(-torch.expm1(means.clamp(max=_ALMOST_CERTAIN)))  # (N, 2)
        ratio = -logsigmoid(log_odds[:, 0] - log_odds[:, 1])  # (N,)
        losses = odds_weight * ratio - means[:, 0]
        parts = {"nll": -means[:, 0], "odds_loss": ratio}
        return losses.sum() / divisor, _metrics(losses, log_odds, **parts)

    return loss


def summed(logprobs: Tensor, datum: Any) -> Tensor:
    """Log-probability of the whole answer; `logprobs` is (T,)."""
    return logprobs @ _mask(logprobs, datum)


def averaged(logprobs: Tensor, datum: Any) -> Tensor:
    """Mean log-probability of the answer's tokens; `logprobs` is (T,)."""
    mask = _mask(logprobs, datum)
    return logprobs @ mask / mask.sum()


def _mask(logprobs: Tensor, datum: Any) -> Tensor:
    return torch.as_tensor(datum.loss_fn_inputs["weights"].data, dtype=logprobs.dtype)


def _metrics(losses: Tensor, scores: Tensor, **more: Tensor) -> dict[str, float]:
    """Sums over pairs, so that micro-batches add up; a tie is half right."""
    chosen, rejected = scores.detach().T
    margin = chosen - rejected
    # Rounded, since a policy that is its own reference differs from it by the noise of float32.
    right = (1 + margin.round(decimals=4).sign()) / 2
    sums = {"loss": losses, "accuracy": right, "margin": margin, "chosen": chosen, "rejected": rejected} | more
    return {name: float(value.detach().sum()) for name, value in sums.items()}


def evaluate(client: Any, batches: Sequence[tuple[Sequence[Pair], CustomLoss]]) -> dict[str, float]:
    """The metrics of each loss per pair, as `eval_...`, without touching gradients."""
    total: dict[str, float] = {}
    for pairs, loss in batches:
        data = as_data(pairs)
        outputs = client.forward(data, "cross_entropy").result().loss_fn_outputs
        _, metrics = loss(data, [torch.tensor(output["logprobs"].data) for output in outputs])
        for name, value in metrics.items():
            total[f"eval_{name}"] = total.get(f"eval_{name}", 0.0) + value
    count = sum(len(pairs) for pairs, _ in batches)
    return {name: value / count for name, value in total.items()}
