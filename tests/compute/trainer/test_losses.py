"""Every loss against a reference written down from the formulas, and the gradients it leaves in a real model."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from emulator.backend import BackendError
from ftsim.compute.quiet import quiet
from ftsim.compute.trainer import losses
from tests.compute.trainer.conftest import ADAM, Start, batch, datum, gradients, tensor


def _per_token(
    rule: Callable[[float, float, float], float],
) -> Callable[[list[float], list[float], list[float]], float]:
    """A scalar loss from a rule over (lp, old, A), one token after another."""
    return lambda lp, old, advantages: sum(rule(*row) for row in zip(lp, old, advantages, strict=True))


def _clip(value: float, low: float, high: float) -> float:
    return max(low, min(high, value))


def _ppo(lp: float, old: float, a: float) -> float:
    ratio = math.exp(_clip(lp - old, -20, 20))
    return max(-ratio * a, -_clip(ratio, 0.8, 1.2) * a)


def _dapo(lp: float, old: float, a: float) -> float:
    return min(-3 * a, _ppo(lp, old, a)) if a < 0 else _ppo(lp, old, a)


def _dppo(lp: float, old: float, a: float) -> float:
    ratio = math.exp(lp - old)
    leaves = (a > 0 and ratio > 1) or (a < 0 and ratio < 1)
    return 0.0 if leaves and abs(math.exp(lp) - math.exp(old)) > 0.05 else -ratio * a


def _gspo(lp: list[float], old: list[float], advantages: list[float]) -> float:
    active = [i for i, a in enumerate(advantages) if a != 0]
    mean = sum(lp[i] - old[i] for i in active) / max(1, len(active))
    ratio = math.exp(min(mean, 10))
    return sum(max(-ratio * a, -_clip(ratio, 0.8, 1.2) * a) for a in advantages)


VALUES: dict[str, tuple[Callable[..., float], dict[str, float]]] = {
    "importance_sampling": (_per_token(lambda lp, old, a: -math.exp(_clip(lp - old, -2, 2)) * a), {"ratio_log_cap": 2}),
    "ppo": (_per_token(_ppo), {}),
    "cispo": (_per_token(lambda lp, old, a: -_clip(math.exp(lp - old), 0.8, 1.28) * lp * a), {}),
    "dro": (_per_token(lambda lp, old, a: -(lp * a - (0.5 * 0.2 * (lp - old) ** 2 if a else 0))), {"beta": 0.2}),
    "dapo": (_per_token(_dapo), {"eps_clip_c": 3}),
    "gspo": (_gspo, {}),
    "dppo": (_per_token(_dppo), {"divergence_threshold": 0.05}),
    "reinforce": (_per_token(lambda lp, old, a: -a * lp), {}),
}


def _inputs(seed: int, datums: int = 4, length: int = 24) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    draw = torch.Generator().manual_seed(seed)
    n = datums * length
    lp = -torch.rand(n, generator=draw, dtype=torch.float64) * 3
    old = lp + torch.randn(n, generator=draw, dtype=torch.float64) * 0.4
    advantages = torch.randn(n, generator=draw, dtype=torch.float64)
    advantages[torch.rand(n, generator=draw) < 0.3] = 0
    return lp, {"logprobs": old, "advantages": advantages}, torch.arange(datums).repeat_interleave(length)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", VALUES)
def test_the_value_of_a_loss_is_its_formula(name: str, seed: int) -> None:
    lp, tensors, row = _inputs(seed)
    rule, config = VALUES[name]
    loss = losses.named(name)
    got = loss.summands(lp, tensors, loss.configure(config), row)
    wanted = sum(
        rule(lp[row == i].tolist(), tensors["logprobs"][row == i].tolist(), tensors["advantages"][row == i].tolist())
        for i in range(4)
    )
    assert got.shape == lp.shape
    assert float(got.sum()) == pytest.approx(wanted, rel=1e-5)


def _surrogate_slope(name: str, lp: Tensor, old: Tensor, a: Tensor) -> Tensor:
    """d loss / d lp worked out by hand; the stop-gradients of cispo and gspo make it differ from the value's slope."""
    ratio = (lp - old).exp()
    inside = (ratio >= 0.8) & (ratio <= 1.2)
    unclipped = inside | ((a > 0) & (ratio < 0.8)) | ((a < 0) & (ratio > 1.2))
    if name == "importance_sampling":
        return torch.where((lp - old).abs() < 2, -ratio * a, 0)
    if name == "ppo":
        return torch.where(unclipped, -ratio * a, 0)
    if name == "dapo":
        return torch.where(unclipped & ~((a < 0) & (ratio > 3)), -ratio * a, 0)
    if name == "cispo":
        return -ratio.clamp(0.8, 1.28) * a
    if name == "dro":
        return torch.where(a != 0, -(a - 0.2 * (lp - old)), 0)
    if name == "dppo":
        leaves = ((a > 0) & (ratio > 1)) | ((a < 0) & (ratio < 1))
        return torch.where(leaves & ((lp.exp() - old.exp()).abs() > 0.05), 0, -ratio * a)
    assert name == "reinforce"
    return -a


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", [name for name in VALUES if name != "gspo"])
def test_the_slope_of_a_loss_is_the_one_worked_out_by_hand(name: str, seed: int) -> None:
    lp, tensors, row = _inputs(seed)
    loss = losses.named(name)
    leaf = lp.clone().requires_grad_()
    loss.summands(leaf, tensors, loss.configure(VALUES[name][1]), row).sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(
        leaf.grad, _surrogate_slope(name, lp, tensors["logprobs"], tensors["advantages"]), rtol=1e-5, atol=1e-7
    )


def test_gspo_gives_every_token_the_slope_of_the_sequence_ratio() -> None:
    lp, tensors, row = _inputs(5)
    leaf = lp.clone().requires_grad_()
    loss = losses.named("gspo")
    loss.summands(leaf, tensors, loss.configure({}), row).sum().backward()  # type: ignore[no-untyped-call]
    for i in range(4):
        old, a = tensors["logprobs"][row == i], tensors["advantages"][row == i]
        ratio = (lp[row == i] - old)[a != 0].mean().exp()
        free = (0.8 <= ratio <= 1.2) | ((a > 0) & (ratio < 0.8)) | ((a < 0) & (ratio > 1.2))
        assert leaf.grad is not None
        torch.testing.assert_close(leaf.grad[row == i], torch.where(free, -ratio * a, 0.0), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_the_gradient_in_the_model_is_that_of_plain_autograd(name: str, start: Start, folders: dict[str, Any]) -> None:
    request = batch(name)
    trainer = start("dense")
    answer = trainer.forward_backward("m", request)
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(folders["dense"], dtype=torch.float32).eval()
    total = torch.zeros(())
    for index, one in enumerate(request["data"]):
        ids = torch.tensor([one["model_input"]["chunks"][0]["tokens"]])
        inputs = {k: torch.tensor(v["data"]) for k, v in one["loss_fn_inputs"].items()}
        scores = model(input_ids=ids).logits[0]
        lp = torch.log_softmax(scores, -1).gather(1, inputs["target_tokens"][:, None])[:, 0]
        row = torch.zeros(len(lp), dtype=torch.long)
        loss = losses.named(name)
        total = total + loss.summands(lp, inputs, loss.configure({}), row).sum()
        torch.testing.assert_close(
            torch.tensor(answer["loss_fn_outputs"][index]["logprobs"]["data"]), lp.detach(), rtol=1e-5, atol=1e-5
        )
    total.backward()  # type: ignore[no-untyped-call]
    assert answer["metrics"]["loss:sum"] == pytest.approx(float(total.detach()), rel=1e-5)
    mine = gradients(trainer)
    for parameter_name, parameter in model.named_parameters():
        torch.testing.assert_close(mine[parameter_name], parameter.grad, rtol=1e-4, atol=1e-5)


def test_a_custom_loss_through_weights_equals_autograd_of_that_loss(start: Start) -> None:
    """The client turns its own loss into `weights = -d loss / d lp` of a cross_entropy (WIRE 2.8)."""
    request = batch("reinforce")
    direct, linear = start("dense"), start("dense")
    answer = direct.forward_backward("m", request)
    data = []
    for one, output in zip(request["data"], answer["loss_fn_outputs"], strict=True):
        inputs = one["loss_fn_inputs"]
        weights = {"weights": tensor(inputs["advantages"]["data"])}
        data.append(
            {"model_input": one["model_input"], "loss_fn_inputs": {"target_tokens": inputs["target_tokens"]} | weights}
        )
        assert len(output["logprobs"]["data"]) == len(inputs["target_tokens"]["data"])
    linear.forward_backward("m", {"data": data, "loss_fn": "cross_entropy"})
    for name, grad in gradients(linear).items():
        torch.testing.assert_close(grad, gradients(direct)[name], rtol=1e-6, atol=1e-8)


def test_multi_target_cross_entropy_sums_over_its_targets(start: Start) -> None:
    tokens, targets, weights = [1, 2, 3], [[4, 5], [6, 7], [8, 9]], [[0.5, 0.5], [1.0, 0.0], [-1.0, 0.25]]
    together, apart = start("dense"), start("dense")
    answer = together.forward_backward(
        "m", {"data": [datum(tokens, targets, weights=weights)], "loss_fn": "cross_entropy"}
    )
    for k in range(2):
        column = datum(tokens, [row[k] for row in targets], weights=[row[k] for row in weights])
        apart.forward_backward("m", {"data": [column], "loss_fn": "cross_entropy"})
    assert answer["loss_fn_outputs"][0]["logprobs"]["shape"] == [3, 2]
    for name, grad in gradients(together).items():
        torch.testing.assert_close(grad, gradients(apart)[name], rtol=1e-5, atol=1e-5)


def test_sparse_tensors_mean_what_dense_ones_mean(start: Start) -> None:
    dense = datum([1, 2, 3], [[4, 0], [0, 7], [8, 9]], weights=[[0.5, 0.0], [0.0, 1.5], [-1.0, 0.25]])
    sparse = datum([1, 2, 3], [1, 2, 3])
    rows = {"sparse_crow_indices": [0, 1, 2, 4], "sparse_col_indices": [0, 1, 0, 1], "shape": [3, 2]}
    sparse["loss_fn_inputs"] = {
        "target_tokens": {"data": [4, 7, 8, 9], "dtype": "int64"} | rows,
        "weights": {"data": [0.5, 1.5, -1.0, 0.25], "dtype": "float32"} | rows,
    }
    left, right = start("dense"), start("dense")
    answers = [
        t.forward_backward("m", {"data": [d], "loss_fn": "cross_entropy"}) for t, d in ((left, dense), (right, sparse))
    ]
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("name", "config", "reason"),
    [
        ("ppo", {"clip_ratio": 0.2}, "clip_low_threshold, clip_high_threshold, ratio_log_cap"),
        ("ppo", {"clip_low_threshold": -0.1}, "outside"),
        ("ppo", {"clip_low_threshold": 1.5}, "above clip_high_threshold"),
        ("dapo", {"eps_clip_c": 1.0}, "outside"),
        ("dro", {"beta": "much"}, "outside"),
        ("dro", {"beta": True}, "outside"),
        ("gspo", {"seq_ratio_log_cap": math.inf}, "outside"),
        ("importance_sampling", {"ratio_log_cap": math.nan}, "outside"),
        ("reinforce", {"beta": 1}, "known here: none"),
        ("cross_entropy", {"target_logprob_support": "candidates"}, "full_vocabulary"),
        ("cross_entropy", ["top_k"], "must be an object"),
        ("policy", {}, "known ones are cross_entropy"),
        (None, {}, "unknown loss_fn None"),
    ],
)
def test_a_setting_that_a_loss_does_not_have_is_the_users_error(
    start: Start, name: str, config: Any, reason: str
) -> None:
    request = batch("cross_entropy" if name in ("policy", None) else name) | {"loss_fn": name, "loss_fn_config": config}
    trainer = start("dense")
    with pytest.raises(BackendError, match=reason) as error:
        trainer.forward_backward("m", request)
    assert error.value.category == "user"
    assert not gradients(trainer)


def test_a_policy_loss_takes_one_target_per_position(start: Start) -> None:
    wrong = datum([1, 2], [[3, 4], [5, 6]], logprobs=[[0.0, 0.0]] * 2, advantages=[[1.0, 1.0]] * 2)
    with pytest.raises(BackendError, match="only cross_entropy"):
        start("dense").forward_backward("m", {"data": [wrong], "loss_fn": "ppo"})


def test_training_on_one_batch_lowers_its_loss(start: Start) -> None:
    trainer = start("untied", rank=4)
    request = {"data": [datum([5, 6, 7, 8], [6, 7, 8, 9])], "loss_fn": "cross_entropy"}
    seen = []
    for _ in range(20):
        seen.append(trainer.forward_backward("m", request)["metrics"]["loss:sum"])
        trainer.optim_step("m", ADAM, "num_loss_tokens")
    assert seen[-1] < 0.5 * seen[0]
