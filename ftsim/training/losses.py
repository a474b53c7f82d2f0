"""The losses of DPO and ORPO, computed on this side from the log-probabilities the trainer returns, and their steps.

Each loss is a callable for the SDK's `forward_backward_custom`, which sends the gradient back. Batches are the
datums of N pairs, those of the chosen and of the rejected side in turn; a datum's `weights` mark the answer's tokens.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ftsim.training.clients import CustomLoss, Datum, TrainingClient
from ftsim.training.config import BatchConfig
from ftsim.training.data.batches import Step
from ftsim.training.data.preferences import Pair, as_data, load_split, sides
from ftsim.training.loop import Data, Figures, Learner, Run, Say
from ftsim.training.metrics import LOSSES
from ftsim.training.steps import grad_norm, submit_custom

PairLoss = Callable[[Sequence[Pair], int], CustomLoss]
"""(pairs, N) -> the loss of these pairs, which are all or a part of the N pairs of one step."""
PICTURES = {
    "loss.svg": (LOSSES, "loss per pair"),
    "accuracy.svg": ({"accuracy": "training", "eval_accuracy": "held out"}, "share of pairs"),
}
# The odds p / (1 - p) of an answer that is certain must stay finite.
_ALMOST_CERTAIN = -1e-6


def dpo_loss(pairs: Sequence[Pair], *, beta: float, label_smoothing: float, divisor: int) -> CustomLoss:
    """Returns the loss of direct preference optimisation (Rafailov et al. 2023, equation 7), divided by `divisor`.

    Every pair carries its reference log-probabilities. With `label_smoothing` e a share e of the preferences counts as
    reversed (Mitchell 2023, conservative DPO).
    """
    reference, weights = [pair.reference for pair in pairs], [pair.weight for pair in pairs]
    owners = sides(pairs)

    def loss(data: list[Any], logprobs: list[Tensor]) -> tuple[Tensor, dict[str, float]]:
        policy = by_side(summed, logprobs, data, owners)  # (N, 2)
        rewards = beta * (policy - torch.tensor(reference, dtype=policy.dtype))  # (N, 2)
        margin = rewards[:, 0] - rewards[:, 1]  # (N,)
        losses = -(1 - label_smoothing) * logsigmoid(margin) - label_smoothing * logsigmoid(-margin)
        losses = losses * torch.tensor(weights, dtype=losses.dtype)
        return losses.sum() / divisor, _metrics(losses, rewards)

    return loss


def orpo_loss(pairs: Sequence[Pair], *, odds_weight: float, divisor: int) -> CustomLoss:
    """Returns the loss of odds-ratio preference optimisation (Hong et al. 2024, equation 6), divided by `divisor`.

    The negative log-likelihood per token of the chosen answer, plus `odds_weight` times the negative log-sigmoid of
    the log odds ratio; a probability is the geometric mean over an answer's tokens. No reference model.
    """

    owners, weights = sides(pairs), [pair.weight for pair in pairs]

    def loss(data: list[Any], logprobs: list[Tensor]) -> tuple[Tensor, dict[str, float]]:
        counts = by_side(lambda lp, datum: _mask(lp, datum).sum(), logprobs, data, owners)
        means = by_side(summed, logprobs, data, owners) / counts  # (N, 2)
        log_odds = means - torch.log(-torch.expm1(means.clamp(max=_ALMOST_CERTAIN)))  # (N, 2)
        ratio = -logsigmoid(log_odds[:, 0] - log_odds[:, 1])  # (N,)
        losses = (odds_weight * ratio - means[:, 0]) * torch.tensor(weights, dtype=means.dtype)
        parts = {"nll": -means[:, 0], "odds_loss": ratio}
        return losses.sum() / divisor, _metrics(losses, log_odds, **parts)

    return loss


def by_side(
    of: Callable[[Tensor, Datum], Tensor], logprobs: Sequence[Tensor], data: Sequence[Datum], owners: Sequence[int]
) -> Tensor:
    """Returns what `of` makes of each datum, added up over the datums of each side of each pair: (N, 2)."""
    values = torch.stack([of(lp, datum) for lp, datum in zip(logprobs, data, strict=True)])
    total = torch.zeros(max(owners) + 1, dtype=values.dtype)
    return total.index_add(0, torch.tensor(owners), values).view(-1, 2)


def summed(logprobs: Tensor, datum: Datum) -> Tensor:
    """Returns the log-probability of the answer's tokens in a datum; `logprobs` is (T,)."""
    return logprobs @ _mask(logprobs, datum)


def _mask(logprobs: Tensor, datum: Datum) -> Tensor:
    return torch.as_tensor(datum.loss_fn_inputs["weights"].data, dtype=logprobs.dtype)


def _metrics(losses: Tensor, scores: Tensor, **more: Tensor) -> dict[str, float]:
    """Returns sums over pairs, so that micro-batches add up; a tie is half right."""
    chosen, rejected = scores.detach().T
    margin = chosen - rejected
    # Rounded, since a policy that is its own reference differs from it by the noise of float32.
    right = (1 + margin.round(decimals=4).sign()) / 2
    sums = {"loss": losses, "accuracy": right, "margin": margin, "chosen": chosen, "rejected": rejected} | more
    return {name: float(value.detach().sum()) for name, value in sums.items()}


def evaluate(client: TrainingClient, batches: Sequence[tuple[Sequence[Pair], CustomLoss]]) -> dict[str, float]:
    """Returns the metrics of each loss per pair, as `eval_...`; gradients stay as they are."""
    total: dict[str, float] = {}
    for pairs, loss in batches:
        data = as_data(pairs)
        outputs = client.forward(data, "cross_entropy").result().loss_fn_outputs
        _, metrics = loss(data, [torch.tensor(output["logprobs"].data) for output in outputs])
        for name, value in metrics.items():
            total[f"eval_{name}"] = total.get(f"eval_{name}", 0.0) + value
    count = sum(len(pairs) for pairs, _ in batches)
    return {name: value / count for name, value in total.items()}


def load_pairs(config: BatchConfig, max_seq_len: int, say: Say) -> Data[Pair | None]:
    """Read the pairs of a preference recipe, None where a row is dropped; `DataError` on bad input."""
    read = load_split(config, max_seq_len, say)
    lengths = [0 if pair is None else _length(pair) for pair in read.train] if config.group_by_length else None
    usable = [pair is not None for pair in read.train]
    return Data(read.train, usable, read.held_out, lengths, read.digest, read.held_out_digest)


def _length(pair: Pair) -> int:
    return max(sum(int(one.model_input.length) for one in side) for side in (pair.chosen, pair.rejected))


def pair_learner(
    run: Run[Any], train: Sequence[Pair | None], held_out: Sequence[Pair], loss: PairLoss, metrics: Sequence[str]
) -> Learner:
    """Returns the steps of a preference recipe: all micro-batches through `loss`, `metrics` logged per pair."""
    config: BatchConfig = run.config

    def begin(step: Step, rate: float) -> Callable[[], Figures]:
        batches = [[pair for row in rows if (pair := train[row]) is not None] for rows in step.micro_batches]
        count = sum(map(len, batches))
        submitted = submit_custom(run.client, [(as_data(pairs), loss(pairs, count)) for pairs in batches], rate, config)

        def figures() -> Figures:
            sums, update = submitted.result()
            return {name: sums[name] / count for name in metrics} | grad_norm(update)

        return figures

    def evaluation() -> Figures:
        batches = [held_out[at : at + config.batch_size] for at in range(0, len(held_out), config.batch_size)]
        return evaluate(run.client, [(pairs, loss(pairs, len(pairs))) for pairs in batches])

    return Learner(begin, evaluation if held_out else None)
