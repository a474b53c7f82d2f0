"""The losses against a second reading of the papers' equations, values and gradients."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from ftsim.training.data.preferences import Pair, as_data
from ftsim.training.data.store import datum
from ftsim.training.data.turns import Example
from ftsim.training.losses import dpo_loss, orpo_loss

PROMPT = 3


def batch(lengths: list[tuple[int, int]], seed: int) -> tuple[list[Pair], list[Tensor]]:
    """Pairs with answers of the given lengths, random references, and random log-probabilities (T,) for all."""
    generator = torch.Generator().manual_seed(seed)

    def example(length: int) -> Any:
        return datum(Example([1] * (PROMPT + length), [0.0] * PROMPT + [1.0] * length))

    reference = (-5 * torch.rand(len(lengths), 2, generator=generator)).tolist()
    answers = [([example(one)], [example(other)]) for one, other in lengths]
    pairs = [Pair(*both, kept) for both, kept in zip(answers, reference, strict=True)]
    sizes = [PROMPT + length - 1 for pair in lengths for length in pair]
    return pairs, [(-3 * torch.rand(size, generator=generator)).requires_grad_() for size in sizes]


def answer(logprobs: Tensor) -> Tensor:
    """The part of the log-probabilities that belongs to the answer."""
    return logprobs.double()[PROMPT - 1 :]


def gradients(value: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(value, leaves))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("lengths", [[(2, 5)], [(4, 1), (3, 3), (1, 6)]])
def test_dpo_is_the_papers_equation(lengths: list[tuple[int, int]], smoothing: float) -> None:
    pairs, logprobs = batch(lengths, seed=1)
    loss, metrics = dpo_loss(pairs, beta=0.3, label_smoothing=smoothing, divisor=7)(as_data(pairs), logprobs)
    expected, right = torch.zeros((), dtype=torch.float64), 0
    for number, pair in enumerate(pairs):
        chosen, rejected = (answer(logprobs[2 * number + side]).sum() for side in (0, 1))
        assert pair.reference is not None
        ratio = 0.3 * ((chosen - pair.reference[0]) - (rejected - pair.reference[1]))
        p = 1 / (1 + torch.exp(-ratio))  # the Bradley-Terry probability that chosen wins
        expected = expected - (1 - smoothing) * torch.log(p) - smoothing * torch.log(1 - p)
        right += ratio.item() > 0
    assert loss.item() == pytest.approx(expected.item() / 7, rel=1e-5)
    assert metrics["loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert metrics["accuracy"] == right
    assert metrics["margin"] == pytest.approx(metrics["chosen"] - metrics["rejected"], abs=1e-5)
    for one, other in zip(gradients(loss, logprobs), gradients(expected / 7, logprobs), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)
        assert not one[: PROMPT - 1].any()


@pytest.mark.parametrize("lengths", [[(2, 5)], [(4, 1), (3, 3), (1, 6)]])
def test_orpo_is_the_papers_equation(lengths: list[tuple[int, int]]) -> None:
    pairs, logprobs = batch(lengths, seed=2)
    loss, metrics = orpo_loss(pairs, odds_weight=0.4, divisor=5)(as_data(pairs), logprobs)
    expected, nll = torch.zeros((), dtype=torch.float64), 0.0
    for number in range(len(pairs)):
        p, q = (torch.exp(answer(logprobs[2 * number + side]).mean()) for side in (0, 1))
        ratio = (p / (1 - p)) / (q / (1 - q))
        expected = expected - torch.log(p) - 0.4 * torch.log(torch.sigmoid(torch.log(ratio)))
        nll -= math.log(p.item())
    assert loss.item() == pytest.approx(expected.item() / 5, rel=1e-5)
    assert metrics["nll"] == pytest.approx(nll, rel=1e-5)
    for one, other in zip(gradients(loss, logprobs), gradients(expected / 5, logprobs), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_a_policy_that_is_its_own_reference_is_right_by_half() -> None:
    pairs, logprobs = batch([(3, 4), (2, 2)], seed=3)
    same = [
        Pair(pair.chosen, pair.rejected, [answer(logprobs[2 * number + side]).sum().item() for side in (0, 1)])
        for number, pair in enumerate(pairs)
    ]
    loss, metrics = dpo_loss(same, beta=0.1, label_smoothing=0.0, divisor=2)(as_data(same), logprobs)
    assert loss.item() == pytest.approx(math.log(2), rel=1e-5)
    assert metrics["accuracy"] == 1.0  # half of two


@pytest.mark.parametrize("value", [0.0, -1e-9, -1e4])
def test_orpo_stays_finite_where_an_answer_is_certain_or_impossible(value: float) -> None:
    pairs, logprobs = batch([(2, 2)], seed=4)
    extreme = [torch.full_like(one.detach(), value).requires_grad_() for one in logprobs]
    loss, metrics = orpo_loss(pairs, odds_weight=1.0, divisor=1)(as_data(pairs), extreme)
    assert math.isfinite(loss.item())
    assert all(math.isfinite(number) for number in metrics.values())
    assert all(one.isfinite().all() for one in gradients(loss, extreme))
