"""Precision, activation checkpointing and compilation: what each changes of the numbers, and that a resume is exact."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from emulator.backend import BackendError, BaseModel, ModelSpec
from emulator.core.kinds import CheckpointKind, detect
from ftsim.compute.execution import Execution, Executions
from ftsim.compute.models.catalogue import base_folder
from ftsim.compute.trainer.trainer import TorchTrainer
from tests.compute.trainer.conftest import ADAM, Start, batch, datum, gradients, same, weights

HALF = Execution("bfloat16")
FRUGAL = Execution(checkpointing=True)
COMPILED = Execution(compiled=True)
TOKENS = [7, 9, 11, 7, 9, 11, 3]
LOSSES = ("cross_entropy", "ppo", "gspo")
compiles = pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles for a CPU with g++")


def run(trainer: TorchTrainer, first: int, steps: int, **settings: Any) -> list[float]:
    losses = []
    for step in range(first, first + steps):
        losses.append(trainer.forward_backward("m", batch(seed=step))["metrics"]["loss:sum"])
        trainer.optim_step("m", {**ADAM, **settings}, "num_loss_tokens")
    return losses


def moments(trainer: TorchTrainer) -> dict[str, torch.Tensor]:
    live = trainer._model("m")
    return {f"{name}.{key}": one for name, v in live.trained.items() for key, one in live.optimizer.state[v].items()}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("kind", "rank"), [("dense", 0), ("dense", 4), ("moe", 0), ("moe", 4)])
def test_layers_that_keep_nothing_give_the_same_bits(start: Start, kind: str, rank: int, loss: str) -> None:
    plain, frugal = start(kind, rank), start(kind, rank, how=FRUGAL)
    request = batch(loss)
    assert plain.forward_backward("m", request) == frugal.forward_backward("m", request)
    assert same(gradients(plain), gradients(frugal))
    assert plain.forward("m", batch()) == frugal.forward("m", batch())


@pytest.mark.parametrize("name", ["qwen3-4b", "qwen3-30b-a3b"])
def test_so_do_the_layers_of_the_models_that_ship(tmp_path: Path, name: str) -> None:
    found = []
    for how in (Execution(), FRUGAL):
        trainer = TorchTrainer(lambda base: base_folder(base.name, tmp_path), how=how)
        trainer.create_model(ModelSpec("m", BaseModel(f"accounts/fireworks/models/{name}")))
        answer = trainer.forward_backward("m", {"data": [datum(TOKENS[:-1], TOKENS[1:])], "loss_fn": "cross_entropy"})
        found.append((answer, gradients(trainer)))
    assert found[0][0] == found[1][0]
    assert same(found[0][1], found[1][1])


def test_layers_keep_less_for_the_backward(start: Start) -> None:
    kept = []
    for how in (Execution(), FRUGAL):
        live, sizes = start("dense", how=how)._model("m"), list[int]()

        def note(value: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(value.numel())
            return value

        with torch.autograd.graph.saved_tensors_hooks(note, lambda value: value):
            live.model(input_ids=torch.arange(64)[None], use_cache=False)
        kept.append(sum(sizes))
    assert kept[1] < kept[0] / 2


@pytest.mark.parametrize("rank", [0, 4])
def test_bfloat16_is_near_to_float32(start: Start, tmp_path: Path, rank: int) -> None:
    plain, half = start("untied", rank), start("untied", rank, how=HALF)
    run(plain, 0, 3)
    plain.save_state("m", tmp_path)
    half.load_state("m", tmp_path, optimizer=False)
    request = batch(lengths=(40, 40))
    losses = [one.forward_backward("m", request)["metrics"]["loss:sum"] for one in (plain, half)]
    assert losses[1] == pytest.approx(losses[0], rel=0.01)
    left, right = (torch.cat([one.flatten() for one in gradients(trainer).values()]) for trainer in (plain, half))
    assert left.dtype == right.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(left, right, dim=0) > 0.99
    assert float(right.norm()) == pytest.approx(float(left.norm()), rel=0.05)


def test_steps_too_small_for_bfloat16_are_not_lost(start: Start) -> None:
    small = {"learning_rate": 1e-5, "weight_decay": 0.0}
    plain, half = start("untied"), start("untied", how=HALF)
    for trainer in (plain, half):
        before = {name: value.detach().clone() for name, value in trainer._model("m").trained.items()}
        run(trainer, 0, 5, **small)
        moved = {name: value - before[name] for name, value in trainer._model("m").trained.items()}
        norms = next(value for name, value in moved.items() if "layernorm" in name)  # weights of 1, rounded to 1/128
        assert 3e-5 < norms.abs().max() < 6e-5
    live = half._model("m")
    for name, value in live.masters.computed.items():
        assert value.dtype == torch.bfloat16
        assert torch.equal(value, live.trained[name].bfloat16())


def test_gradients_of_many_requests_are_summed_in_float32(start: Start) -> None:
    once, often = start("untied", how=HALF), start("untied", how=HALF)
    once.forward_backward("m", batch())
    for _ in range(64):
        often.forward_backward("m", batch())
    for name, value in gradients(once).items():
        assert torch.allclose(gradients(often)[name], value * 64, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize(
    "how",
    [
        HALF,
        FRUGAL,
        Execution("bfloat16", checkpointing=True),
        pytest.param(COMPILED, marks=[pytest.mark.slow, compiles]),
        pytest.param(Execution("bfloat16", True, True), marks=[pytest.mark.slow, compiles]),
    ],
    ids=Execution.words,
)
def test_a_resumed_run_ends_with_the_bits_of_an_uninterrupted_one(
    start: Start, tmp_path: Path, how: Execution, rank: int
) -> None:
    whole, resumed = start("dense", rank, how=how), start("dense", rank, seed=8, how=how)
    run(whole, 0, 3)
    whole.save_state("m", tmp_path)
    assert json.loads((tmp_path / "training_state.json").read_text())["computed"]["precision"] == how.precision
    resumed.load_state("m", tmp_path, optimizer=True)
    assert run(whole, 3, 2) == run(resumed, 3, 2)
    assert same(weights(whole), weights(resumed))
    assert same(moments(whole), moments(resumed))


@pytest.mark.slow
@compiles
@pytest.mark.parametrize("rank", [0, 4])
def test_compiled_layers_are_near_to_the_others(start: Start, rank: int) -> None:
    plain, compiled = start("dense", rank), start("dense", rank, how=COMPILED)
    for step in range(3):
        left, right = (one.forward_backward("m", batch(seed=step)) for one in (plain, compiled))
        assert right["metrics"]["loss:sum"] == pytest.approx(left["metrics"]["loss:sum"], rel=1e-5)
    for name, value in gradients(plain).items():
        assert torch.allclose(gradients(compiled)[name], value, rtol=1e-4, atol=1e-5 * float(value.abs().max()))


def test_experts_are_not_compiled(start: Start) -> None:
    with pytest.raises(BackendError, match="compute it without 'compile'"):
        start("moe", how=COMPILED)


@pytest.mark.parametrize("rank", [0, 4])
def test_a_resume_that_would_compute_otherwise_is_refused_by_both_names(
    start: Start, tmp_path: Path, rank: int
) -> None:
    source = start("dense", rank, how=HALF)
    run(source, 0, 2)
    source.save_state("m", tmp_path)
    other = start("dense", rank, seed=8)
    before = weights(other)
    with pytest.raises(BackendError, match=r"with bfloat16, this trainer computes with float32.*--compute bfloat16"):
        other.load_state("m", tmp_path, optimizer=True)
    assert same(before, weights(other))
    other.load_state("m", tmp_path, optimizer=False)
    assert same(weights(source), weights(other))
    frugal = start("dense", rank, how=Execution("bfloat16", checkpointing=True))
    frugal.load_state("m", tmp_path, optimizer=True)
    assert run(frugal, 2, 1) == run(source, 2, 1)


def test_weights_for_sampling_are_those_that_were_computed_with(start: Start, tmp_path: Path) -> None:
    trainer = start("untied", how=HALF)
    for name in ("base", "delta"):
        run(trainer, 0, 1)
        (tmp_path / name).mkdir()
        trainer.save_sampler("m", tmp_path / name, identity=name, checkpoint_type=name).acknowledged()
        if name == "base":
            saved = load_file(tmp_path / "base/model.safetensors")
            computed = trainer._model("m").masters.computed
            assert same(saved, {name: value.detach() for name, value in computed.items()})
    assert detect(tmp_path / "delta") is CheckpointKind.INFERENCE_ARC_V2


def test_an_adapter_of_a_bfloat16_base_is_float32(start: Start, tmp_path: Path) -> None:
    trainer = start("dense", 4, how=HALF)
    run(trainer, 0, 2)
    trainer.save_sampler("m", tmp_path, identity="a")
    assert {value.dtype for value in load_file(tmp_path / "adapter_model.safetensors").values()} == {torch.float32}
    assert trainer._model("m").bare.dtype == torch.bfloat16
    again = start("dense", 4, how=HALF)
    again.load_adapter("m", tmp_path)
    assert same(weights(trainer), weights(again))


def test_ways_to_compute_are_written_in_words() -> None:
    for words in ("float32", "bfloat16", "bfloat16,checkpointing", "float32,checkpointing,compile"):
        assert Execution.parse(words).words() == words
    assert Execution.parse("checkpointing", "bfloat16") == Execution("bfloat16", checkpointing=True)
    chosen = Executions(["checkpointing", "qwen3-8b=bfloat16", "accounts/mine/models/own=compile"])
    assert chosen.of("accounts/fireworks/models/qwen3-8b") == HALF
    assert chosen.of("accounts/mine/models/own") == COMPILED
    assert chosen.of("accounts/fireworks/models/other") == FRUGAL
    for wrong, why in (("int8", "no way to compute"), ("float32,bfloat16", "one precision"), ("=bfloat16", "NAME=")):
        with pytest.raises(ValueError, match=why):
            Executions([wrong])
