"""Log-probabilities and gradients in blocks of positions are those of all positions at once."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from emulator.backend import BackendError, ModelSpec
from ftsim.compute.trainer import head, losses
from ftsim.compute.trainer.trainer import TorchTrainer
from tests.compute.trainer.conftest import BASE, Start, batch, datum, gradients
from tests.zoo import folders

LENGTHS = (5, 31, 17, 9)


@pytest.fixture
def in_blocks(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[int]]:
    """`in_blocks()` makes blocks of seven positions from now on; the list it gives tells how many each one had."""

    def start() -> list[int]:
        sizes: list[int] = []
        whole = head.logprobs

        def counted(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            sizes.append(len(logits))
            return whole(logits, targets)

        monkeypatch.setattr(head, "WHOLE_BYTES", 0)
        monkeypatch.setattr(head, "BLOCK_BYTES", 7 * 1024 * 4)
        monkeypatch.setattr(head, "REUSED_BYTES", 0)
        monkeypatch.setattr(head, "logprobs", counted)
        return sizes

    return start


def both(
    trainer: TorchTrainer, asked: dict[str, Any], in_blocks: Callable[[], list[int]]
) -> tuple[dict[str, Any], dict[str, Any], list[int]]:
    whole = dict(trainer.forward_backward("m", asked))
    whole["gradients"] = gradients(trainer)
    trainer._model("m").forget_gradients()
    sizes = in_blocks()
    parts = dict(trainer.forward_backward("m", asked))
    parts["gradients"] = gradients(trainer)
    return whole, parts, sizes


def close(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    scale = max(float(value.abs().max()) for value in left.values())
    return left.keys() == right.keys() and all(
        torch.allclose(left[name], right[name], rtol=1e-5, atol=1e-6 * scale) for name in left
    )


@pytest.mark.parametrize("loss_fn", list(losses.LOSSES))
def test_every_loss_has_the_gradient_of_the_whole(
    start: Start, in_blocks: Callable[[], list[int]], loss_fn: str
) -> None:
    whole, parts, sizes = both(start("untied"), batch(loss_fn, LENGTHS), in_blocks)
    assert max(sizes) == 7
    assert sum(sizes) == sum(LENGTHS) * (2 if losses.LOSSES[loss_fn].whole_rows else 1)
    assert close(whole["gradients"], parts["gradients"])
    assert parts["metrics"]["loss:sum"] == pytest.approx(whole["metrics"]["loss:sum"], rel=1e-6)
    for one, other in zip(whole["loss_fn_outputs"], parts["loss_fn_outputs"], strict=True):
        assert other["logprobs"]["data"] == pytest.approx(one["logprobs"]["data"], abs=1e-6)


@pytest.mark.parametrize("kind", ["dense", "untied", "moe"])
@pytest.mark.parametrize("rank", [0, 4])
def test_every_way_to_train_has_the_gradient_of_the_whole(
    start: Start, in_blocks: Callable[[], list[int]], kind: str, rank: int
) -> None:
    trainer = start(kind, rank)
    if rank:
        with torch.no_grad():
            for name, value in trainer._model("m").trained.items():
                if "lora_B" in name:
                    value.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    whole, parts, sizes = both(trainer, batch(lengths=LENGTHS), in_blocks)
    assert max(sizes) == 7
    assert close(whole["gradients"], parts["gradients"])


@pytest.mark.parametrize("name", ["llama4", "gemma3", "granite", "gpt_oss", "cohere2", "mistral"])
def test_a_family_of_transformers_has_the_gradient_of_the_whole(
    name: str, tmp_path: Path, in_blocks: Callable[[], list[int]]
) -> None:
    folder = folders.write(name, tmp_path / name)
    trainer = TorchTrainer(lambda base: folder)
    trainer.create_model(ModelSpec("m", BASE))
    vocabulary = trainer._model("m").bare.get_input_embeddings().num_embeddings
    asked = batch(lengths=LENGTHS, vocabulary=int(vocabulary))
    whole, parts, sizes = both(trainer, asked, in_blocks)
    assert sum(sizes) == sum(LENGTHS)
    assert len(sizes) > 1
    assert close(whole["gradients"], parts["gradients"])


def test_several_targets_a_position_and_the_best_tokens(start: Start, in_blocks: Callable[[], list[int]]) -> None:
    trainer = start("untied")
    several = [[3, 5], [7, 9], [1, 2]] * 5
    asked = {
        "data": [datum(list(range(1, 16)), several, weights=[[0.5, 0.25]] * 15)],
        "loss_fn": "cross_entropy",
        "loss_fn_config": None,
    }
    whole, parts, _ = both(trainer, asked, in_blocks)
    assert close(whole["gradients"], parts["gradients"])
    best = trainer.forward("m", {**asked, "loss_fn_config": {"top_k": 3}})["loss_fn_outputs"][0]
    head.WHOLE_BYTES = 1 << 30  # put back by the fixture
    known = trainer.forward("m", {**asked, "loss_fn_config": {"top_k": 3}})["loss_fn_outputs"][0]
    assert best["top_k_indices"] == known["top_k_indices"]
    assert best["top_k_logprobs"]["data"] == pytest.approx(known["top_k_logprobs"]["data"], abs=1e-6)
    assert best["logprobs"]["shape"] == [15, 2]


def test_what_the_model_does_after_its_last_matrix_is_in_the_blocks(
    start: Start, in_blocks: Callable[[], list[int]]
) -> None:
    trainer = start("untied")
    bare = trainer._model("m").bare
    forward = bare.forward

    def scaled(*args: Any, logits_to_keep: int = 0, **kwargs: Any) -> Any:
        out = forward(*args, logits_to_keep=logits_to_keep, **kwargs)
        out.logits = torch.tanh(out.logits / 2) * 2
        return out

    bare.forward = scaled
    whole, parts, sizes = both(trainer, batch(lengths=LENGTHS), in_blocks)
    assert max(sizes) == 7
    assert close(whole["gradients"], parts["gradients"])


def test_a_head_that_cannot_run_alone_runs_whole(start: Start, in_blocks: Callable[[], list[int]]) -> None:
    """A model that looks at the tokens again after its layers gives other scores for a block: all run at once."""
    trainer = start("untied")
    bare = trainer._model("m").bare
    forward = bare.forward

    def shifted(input_ids: torch.Tensor, logits_to_keep: int = 0, **kwargs: Any) -> Any:
        out = forward(input_ids=input_ids, logits_to_keep=logits_to_keep, **kwargs)
        out.logits = out.logits + input_ids.shape[1]
        return out

    bare.forward = shifted
    whole, parts, sizes = both(trainer, batch(lengths=LENGTHS), in_blocks)
    assert sizes == [sum(LENGTHS)]
    assert close(whole["gradients"], parts["gradients"])


def test_steps_in_blocks_repeat_to_the_bit(start: Start, in_blocks: Callable[[], list[int]]) -> None:
    in_blocks()
    ends = []
    for _ in range(2):
        trainer = start("untied")
        trainer.forward_backward("m", batch("gspo", LENGTHS))
        ends.append(gradients(trainer))
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_diverged_weights_are_reported_from_a_block(start: Start, in_blocks: Callable[[], list[int]]) -> None:
    trainer = start("untied")
    in_blocks()
    with torch.no_grad():
        trainer._model("m").bare.get_input_embeddings().weight.mul_(math.nan)
    with pytest.raises(BackendError, match="diverged"):
        trainer.forward_backward("m", batch(lengths=LENGTHS))
    assert not gradients(trainer)


@pytest.mark.parametrize("shape", [(9,), (9, 1), (9, 3)])
def test_the_gradient_that_takes_the_place_of_log_probabilities_is_that_of_autograd(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]
) -> None:
    drawn = torch.Generator().manual_seed(4)
    scores = torch.randn(9, 50, generator=drawn, dtype=torch.float64)
    targets = torch.randint(0, 6, shape, generator=drawn)  # a token may be asked for twice at a position
    slopes = torch.randn(shape, generator=drawn, dtype=torch.float64)
    found = []
    for limit in (0, 1 << 40):
        monkeypatch.setattr(head, "REUSED_BYTES", limit)
        leaf = scores.clone().requires_grad_()
        picked = head.logprobs(leaf * 2, targets)
        head.push(picked, slopes)
        assert leaf.grad is not None
        found.append((picked.detach(), leaf.grad))
    (one, own), (other, known) = found
    assert torch.equal(one, other)
    assert torch.allclose(own, known, rtol=1e-13, atol=1e-14)


def test_scores_that_are_no_numbers_are_refused_whatever_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in (0, 1 << 40):
        monkeypatch.setattr(head, "REUSED_BYTES", limit)
        with pytest.raises(BackendError, match="log-probabilities are NaN"):
            head.logprobs(torch.full((2, 5), torch.nan, requires_grad=True), torch.zeros(2, dtype=torch.int64))
