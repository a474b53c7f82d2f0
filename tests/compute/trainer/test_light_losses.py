"""The losses and the optimizer of the light backend are those of the real one, number by number."""

import math

import pytest
import torch

from emulator.backend import BackendError, BaseModel, ModelSpec
from emulator.core.adam import ADAM
from emulator.light import losses as light
from emulator.light.model import Datum as LightDatum, LightModel
from ftsim.compute.trainer import losses as real, optimizer

POSITIONS = [
    (light.Position(weight, old, advantage), lp)
    for weight in (1.0, -0.5)
    for old in (-0.1, -1.0, -3.0)
    for advantage in (-2.0, 0.0, 1.5)
    for lp in (-0.2, -1.05, -2.5)
]


@pytest.mark.parametrize("name", light.LOSSES)
def test_summands_and_slopes_are_the_same(name: str) -> None:
    mine, theirs = light.LOSSES[name], real.LOSSES[name]
    settings = theirs.configure({})
    assert dict(mine.defaults) == settings
    assert mine.tensors == theirs.tensors
    for position, lp in POSITIONS:
        tensors = {
            "weights": torch.tensor([position.weight]),
            "logprobs": torch.tensor([position.old]),
            "advantages": torch.tensor([position.advantage]),
        }
        leaf = torch.tensor([lp], requires_grad=True)
        summand = theirs.summands(leaf, tensors, settings, torch.tensor([0]))
        (slope,) = torch.autograd.grad(summand.sum(), leaf)
        found = mine.summand(lp, position, mine.defaults)
        assert found == pytest.approx((float(summand.detach()), float(slope)), abs=1e-5), (position, lp)


def test_other_losses_and_settings_are_refused_by_name() -> None:
    with pytest.raises(BackendError, match="does not compute loss_fn 'gspo': it has cross_entropy"):
        light.configured({"loss_fn": "gspo"})
    with pytest.raises(BackendError, match="unknown loss_fn_config key 'beta'"):
        light.configured({"loss_fn": "ppo", "loss_fn_config": {"beta": 1}})
    with pytest.raises(BackendError, match="a number from 0 to 80"):
        light.configured({"loss_fn": "ppo", "loss_fn_config": {"ratio_log_cap": math.inf}})


@pytest.mark.parametrize("given", [{}, {"weight_decay": 0.1, "learning_rate": 0.3}, {"grad_clip_norm": 0.5}])
def test_a_step_is_that_of_torchs_adamw(given: dict[str, float]) -> None:
    defaults = optimizer.AdamParams()
    assert {name: getattr(defaults, name) for name in ADAM} == ADAM
    model = LightModel(ModelSpec("m", BaseModel("x")), [0.0] * 4, [0.1, -0.2, 0.3, 0.0])
    weights = torch.tensor(model.trained, requires_grad=True)
    adam = optimizer.create([weights])
    for step in range(1, 4):
        gradient = [0.5 * step, -1.0, 0.25, 0.0]
        model.gradient = list(gradient)
        weights.grad = torch.tensor(gradient)
        metrics = optimizer.apply(adam, {"w": weights}, optimizer.AdamParams.parse(given), 1)
        assert model.take_step(given, None)["grad_norm"] == pytest.approx(metrics["grad_norm"], rel=1e-5)
        assert model.trained == pytest.approx(weights.detach().tolist(), rel=1e-4, abs=1e-6)


def test_a_step_out_of_float32_is_refused_and_changes_nothing() -> None:
    model = LightModel(ModelSpec("m", BaseModel("x")), [0.0] * 4, [0.0] * 4, gradient=[1.0] * 4)
    with pytest.raises(BackendError, match="out of what float32 holds"):
        model.take_step({"learning_rate": 1e300}, None)
    assert (model.trained, model.step) == ([0.0] * 4, 0)


def _datum(**tensors: list[float]) -> dict[str, object]:
    named = {name: {"data": values} for name, values in tensors.items()}
    return {"loss_fn_inputs": {"target_tokens": {"data": [1, 2, 3]}, **named}}


@pytest.mark.parametrize(
    ("trains", "acting", "tensors", "reason"),
    [
        (False, (), {"loss_mask": [0.0, 1.0, 1.0], "rewards": [1.0]}, ""),
        (True, (), {"weights": [1.0, 0.0, 2.0], "loss_mask": [1.0, 0.0, 1.0]}, ""),
        (True, (), {"weights": [1.0, 0.0, 2.0], "mask": [1.0, 1.0, 0.0]}, "'mask' leaves out positions that 'weights'"),
        (True, (), {"mask": [1.0, 1.0, 0.0]}, "'mask' leaves out positions that 'weights' trains"),
        (True, (), {"mask": [1.0, 1.0]}, "mask has 2 numbers for 3 target tokens"),
        (True, (), {"rewards": [1.0, 1.0, 1.0]}, "unknown loss input 'rewards'"),
        (True, ("advantages",), {"advantages": [1.0, 0.0, 1.0], "mask": [1.0, 0.0, 1.0]}, ""),
        (True, ("advantages",), {"advantages": [1.0, 1.0, 1.0], "mask": [1.0, 0.0, 1.0]}, "that 'advantages' trains"),
    ],
)
def test_unused_tensors_and_masks_are_judged_as_by_the_real_trainer(
    trains: bool, acting: tuple[str, ...], tensors: dict[str, list[float]], reason: str
) -> None:
    if not reason:
        assert len(LightDatum.parse(_datum(**tensors), acting, trains=trains).targets) == 3
        return
    with pytest.raises(BackendError, match=reason):
        LightDatum.parse(_datum(**tensors), acting, trains=trains)
