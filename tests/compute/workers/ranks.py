"""A program that torchrun starts on every rank: what torch makes easy to get wrong on several ranks, case by case.

`python -m tests.compute.workers.ranks FOLDER`: FOLDER holds model folders, and gets a file of results for each rank.
Each rank compares with a trainer of one process, which it runs for itself.
"""

import json
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor
from torch.distributed.checkpoint import state_dict_loader
from torch.distributed.checkpoint.filesystem import FileSystemReader

from emulator.backend import BackendError, LoraSpec, ModelSpec
from ftsim.compute.checkpoints import dcp
from ftsim.compute.execution import FLOAT32, Execution
from ftsim.compute.quiet import quiet
from ftsim.compute.trainer import head, lora, shards
from ftsim.compute.trainer.trainer import TorchTrainer
from ftsim.compute.workers.group import GroupTrainer
from tests.compute.trainer.conftest import ADAM, BASE, VOCABULARY, batch, same

ROOT = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()
LENGTHS = (9, 5, 3)


def made(
    kind: str = "dense",
    rank: int = 0,
    cls: type[TorchTrainer] = GroupTrainer,
    how: Execution = FLOAT32,
    budget: int = 8192,
    **more: Any,
) -> TorchTrainer:
    trainer = cls(lambda _: ROOT / kind, lora_rank=rank, how=how, micro_batch_tokens=budget)
    trainer.create_model(ModelSpec("m", BASE, LoraSpec(rank, seed=3) if rank else None, **more))
    return trainer


def pair(kind: str = "dense", rank: int = 0, **how: Any) -> tuple[TorchTrainer, TorchTrainer]:
    """A trainer on the group, and one of this process alone."""
    return made(kind, rank, **how), made(kind, rank, TorchTrainer, **how)


def step(trainer: TorchTrainer, seed: int = 0, lengths: tuple[int, ...] = LENGTHS) -> dict[str, Any]:
    answer = trainer.forward_backward("m", batch(seed=seed, lengths=lengths))
    trainer.optim_step("m", ADAM, "num_loss_tokens")
    return dict(answer)


def whole(value: Tensor) -> Tensor:
    sharded: Any = value
    found: Tensor = sharded.full_tensor() if shards.is_sharded(value) else value
    return found.detach()


def gradients(trainer: TorchTrainer) -> dict[str, Tensor | None]:
    held = trainer._model("m").trained
    return {name: None if value.grad is None else whole(value.grad) for name, value in held.items()}


def weights(trainer: TorchTrainer) -> dict[str, Tensor]:
    return {name: whole(value) for name, value in trainer._model("m").trained.items()}


def check_close(ours: dict[str, Tensor | None], theirs: dict[str, Tensor | None], most: float = 1e-6) -> None:
    """Equal to `most` of the largest number there is; a gradient that is not there is not there on either side."""
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if (ours[name] is None) != (theirs[name] is None)] == []
    largest = max(float(value.abs().max()) for value in theirs.values() if value is not None)
    for name, value in theirs.items():
        other = ours[name]
        if value is not None and other is not None:
            assert float((value - other).abs().max()) <= most * largest, name


def same_gradients(
    kind: str, rank: int, lengths: tuple[int, ...], loss: str = "cross_entropy", **how: Any
) -> tuple[TorchTrainer, TorchTrainer]:
    ours, theirs = pair(kind, rank, **how)
    told, expected = (one.forward_backward("m", batch(loss, lengths=lengths)) for one in (ours, theirs))
    check_close(gradients(ours), gradients(theirs))
    assert abs(told["metrics"]["loss:sum"] - expected["metrics"]["loss:sum"]) <= 1e-5 * abs(
        expected["metrics"]["loss:sum"]
    )
    counts = [(one._model("m").loss_tokens, one._model("m").loss_sequences) for one in (ours, theirs)]
    assert counts[0] == counts[1]
    if dist.get_rank() == 0:
        for one, other in zip(told["loss_fn_outputs"], expected["loss_fn_outputs"], strict=True):
            torch.testing.assert_close(torch.tensor(one["logprobs"]["data"]), torch.tensor(other["logprobs"]["data"]))
    return ours, theirs


def unequal_token_counts() -> None:
    for rank in (0, 4):
        same_gradients("dense", rank, (30, 2))


def a_rank_without_tokens() -> None:
    for rank in (0, 4):
        same_gradients("dense", rank, (7,))


def an_expert_without_tokens() -> None:
    for rank in (0, 4):
        same_gradients("moe", rank, (2, 1))


@contextmanager
def in_blocks(positions: int = 7) -> Iterator[list[int]]:
    """Let scores be computed for so many positions at a time; yields how many each block had, on this rank."""
    sizes: list[int] = []
    of = head._of

    def counted(every: Tensor, targets: Tensor) -> Tensor:
        sizes.append(len(every))
        return of(every, targets)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(head, "WHOLE_BYTES", 0)
        patch.setattr(head, "BLOCK_BYTES", positions * VOCABULARY * 4)
        patch.setattr(head, "_of", counted)
        yield sizes


def scores_in_blocks() -> None:
    """Each rank has as many blocks as its tokens need; the numbers are those of one process that computes at once."""
    for kind, rank, loss in (
        ("dense", 0, "cross_entropy"),
        ("untied", 0, "gspo"),
        ("moe", 0, "ppo"),
        ("dense", 4, "cross_entropy"),
    ):
        ours, theirs = pair(kind, rank)
        for seed in range(2):
            asked = batch(loss, lengths=(30, 2, 9), seed=seed)
            with in_blocks() as sizes:
                told = ours.forward_backward("m", asked)
            expected = theirs.forward_backward("m", asked)
            assert sum(sizes) == (30, 11)[dist.get_rank()] * (2 if loss == "gspo" else 1)
            assert max(sizes) == 7
            check_close(gradients(ours), gradients(theirs))
            assert told["metrics"]["loss:sum"] == pytest.approx(expected["metrics"]["loss:sum"], rel=1e-5)
        with in_blocks() as sizes:
            told = ours.forward("m", batch(lengths=(30, 2, 9), top_k=3))
        expected = theirs.forward("m", batch(lengths=(30, 2, 9), top_k=3))
        assert max(sizes) == 7
        if dist.get_rank() == 0:
            for one, other in zip(told["loss_fn_outputs"], expected["loss_fn_outputs"], strict=True):
                for name in ("logprobs", "top_k_logprobs"):
                    torch.testing.assert_close(torch.tensor(one[name]["data"]), torch.tensor(other[name]["data"]))
                assert one["top_k_indices"] == other["top_k_indices"]


def blocks_on_one_rank_alone() -> None:
    """A rank that computes at once and one that does so in blocks go through the same forwards and backwards."""
    for loss in ("cross_entropy", "gspo"):
        with in_blocks() as sizes, pytest.MonkeyPatch.context() as patch:
            patch.setattr(head, "WHOLE_BYTES", 10 * VOCABULARY * 4)
            ours = made("untied")
            ours.forward_backward("m", batch(loss, lengths=(30, 8)))
        assert max(sizes) == (7, 8)[dist.get_rank()]
        theirs = made("untied", cls=TorchTrainer)
        theirs.forward_backward("m", batch(loss, lengths=(30, 8)))
        check_close(gradients(ours), gradients(theirs))


def a_block_that_fails() -> None:
    """Gradients of the blocks before it, which wait on a rank, are in no later gradient."""
    ours, theirs = pair("untied")
    asked = batch(lengths=(30, 9))
    of, calls = head._of, list[int]()

    def breaks(every: Tensor, targets: Tensor) -> Tensor:
        calls.append(len(every))
        if dist.get_rank() == 0 and len(calls) == 3:
            raise BackendError("log-probabilities are NaN")
        return of(every, targets)

    with in_blocks():
        ours.forward_backward("m", asked)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(head, "_of", breaks)
            with pytest.raises(BackendError, match="log-probabilities are NaN"):
                ours.forward_backward("m", asked)
            calls.clear()
            with pytest.raises(BackendError, match="log-probabilities are NaN"), torch.no_grad():
                ours.forward("m", asked)
        theirs.forward_backward("m", asked)
        check_close(gradients(ours), gradients(theirs))
        for one in (ours, theirs):
            one.forward_backward("m", batch(lengths=(30, 9), seed=1))
        check_close(gradients(ours), gradients(theirs))


def layers_that_keep_nothing() -> None:
    """Activation checkpointing gives the numbers of one process, and to the bit those of a group without it."""
    frugal = Execution(checkpointing=True)
    for kind, rank in (("dense", 0), ("moe", 0), ("dense", 4)):
        ours, _ = same_gradients(kind, rank, LENGTHS, how=frugal)
        plain = made(kind, rank)
        plain.forward_backward("m", batch(lengths=LENGTHS))
        held = gradients(ours)
        assert all(
            (value is None and held[name] is None) or torch.equal(value, held[name])  # type: ignore[arg-type]
            for name, value in gradients(plain).items()
        )


def half_precision() -> None:
    """With the same micro-batches, gradients are those of one process; masters and moments are float32, and sharded."""
    for kind, rank in (("dense", 0), ("untied", 0), ("moe", 0), ("dense", 4)):
        for how in (Execution("bfloat16"), Execution("bfloat16", checkpointing=True)):
            ours, theirs = same_gradients(kind, rank, (9, 8), how=how, budget=9)
            for one in (ours, theirs):
                one.optim_step("m", ADAM | {"eps": 1e-3}, "num_loss_tokens")
            check_close(dict(weights(ours)), dict(weights(theirs)))
            for value in ours._model("m").trained.values():
                assert value.dtype == torch.float32
                assert shards.is_sharded(value) == (rank == 0)
            again = [one.forward_backward("m", batch(lengths=(9, 8), seed=1))["metrics"] for one in (ours, theirs)]
            assert again[0]["loss:sum"] == pytest.approx(again[1]["loss:sum"], rel=1e-2)
    with in_blocks(3):
        ours, theirs = pair(how=Execution("bfloat16"))
        for one in (ours, theirs):
            one.forward_backward("m", batch(lengths=(9, 8)))
        check_close(gradients(ours), gradients(theirs), 2**-8)


def states_in_half_precision() -> None:
    """A state of bfloat16 holds the masters, and its exports are what is computed with, on ranks as in one process."""
    ours, theirs = pair("untied", how=Execution("bfloat16"), budget=9)
    for one in (ours, theirs):
        step(one, lengths=(9, 8))
    folder = saved(ours)
    theirs.load_state("m", folder, optimizer=True)
    assert same(weights(ours), weights(theirs))
    boxes = [tempfile.mkdtemp(dir=ROOT)]
    dist.broadcast_object_list(boxes)
    export, alone = Path(boxes[0]), Path(tempfile.mkdtemp(dir=ROOT))
    ours.save_sampler("m", export, identity="x")
    theirs.save_sampler("m", alone, identity="x")
    dist.barrier()
    files = [load_file(one / "model.safetensors") for one in (export, alone)]
    assert same(*files)
    assert {value.dtype for value in files[0].values()} == {torch.bfloat16}


def losses_that_look_at_rows() -> None:
    for loss in ("gspo", "dro", "ppo"):
        same_gradients("dense", 4, LENGTHS, loss)
        same_gradients("dense", 0, LENGTHS, loss)


def a_parameter_without_a_gradient() -> None:
    """Weights that never had a gradient are saved so that they load, by ours and by torch's own."""
    trainer = made("moe")
    idle = next(iter(trainer._model("m").trained))
    trainer.forward_backward("m", batch())
    trainer._model("m").trained[idle].grad = None
    trainer.optim_step("m", ADAM, None)
    folder = saved(trainer)
    again = made("moe")
    again.load_state("m", folder, optimizer=True)
    value = again._model("m").trained[idle]
    assert value not in again._model("m").optimizer.state
    assert same(weights(trainer), weights(again))
    state = dcp.state_of(trainer._model("m"))
    read = {name: torch.zeros_like(one) for name, one in state.items()}
    with quiet():
        state_dict_loader.load(dict(read), storage_reader=FileSystemReader(folder))
    assert all(torch.equal(whole(read[name]), whole(one)) for name, one in state.items())


def saved(trainer: TorchTrainer) -> Path:
    box = [tempfile.mkdtemp(dir=ROOT)]
    dist.broadcast_object_list(box)
    trainer.save_state("m", Path(box[0]))
    dist.barrier()
    return Path(box[0])


def a_save_before_the_first_step() -> None:
    """No step is left behind by a save, nor loaded from it."""
    trainer, other = made(), made()
    folder = saved(trainer)
    assert trainer._model("m").optimizer.state == {}
    other.load_state("m", folder, optimizer=True)
    assert (other._model("m").step, other._model("m").optimizer.state) == (0, {})
    step(trainer)
    step(other)
    steps = {float(state["step"]) for state in other._model("m").optimizer.state.values()}
    assert steps == {1.0}
    assert same(weights(trainer), weights(other))


def an_optimizer_made_after_a_forward() -> None:
    """A forward without gradients leaves nothing whole behind that a new optimizer would take for the weights."""
    trainer = made()
    folder = saved(trainer)
    trainer.forward("m", batch())
    trainer.load_state("m", folder, optimizer=False)
    before = weights(trainer)
    step(trainer)
    after = weights(trainer)
    assert all(not torch.equal(before[name], after[name]) for name in before if "embed" not in name)


def a_failed_operation() -> None:
    """An operation that fails, on both ranks or on one, leaves no gradient, and the same words on both."""
    for rank in (0, 4):
        trainer, other = pair("dense", rank)
        trainer.forward_backward("m", batch(seed=1))
        other.forward_backward("m", batch(seed=1))
        bad = batch(lengths=LENGTHS)
        bad["data"][0]["loss_fn_inputs"]["weights"]["data"] = [3e38, -3e38] * 4 + [3e38]  # the datum of one rank
        with pytest.raises(BackendError) as error:
            trainer.forward_backward("m", bad)
        found: list[Any] = [None, None]
        dist.all_gather_object(found, error.value.message)
        assert found == ["the gradient is NaN or infinite; the weights or the loss inputs are out of range"] * 2
        assert trainer._model("m").loss_tokens == other._model("m").loss_tokens
        check_close(gradients(trainer), gradients(other))
        for one in (trainer, other):
            one.forward_backward("m", batch(seed=2))
        check_close(gradients(trainer), gradients(other))


def weights_that_diverged_on_one_rank() -> None:
    """Log-probabilities that are NaN for one rank's datum fail on both, and nobody waits for ever."""
    for rank in (0, 4):
        trainer = made("untied", rank)
        table = trainer._model("m").bare.get_input_embeddings().weight
        with torch.no_grad():
            if rank == 0:
                own = shards.local(trainer._model("m").trained["model.embed_tokens.weight"])
                if dist.get_rank() == 0:  # which holds the first half of the table
                    own[7] = torch.nan
            else:
                table[7] = torch.nan
        bad = batch(lengths=(6, 5))
        bad["data"][0]["model_input"]["chunks"][0]["tokens"] = [7] * 6
        bad["data"][1]["model_input"]["chunks"][0]["tokens"] = [8] * 5
        before = gradients(trainer)
        with pytest.raises(BackendError, match="log-probabilities are NaN"):
            trainer.forward_backward("m", bad)
        assert gradients(trainer) == before


def answers_about_sharded_tensors() -> None:
    """Norms and checks are those of all ranks, where torch's own are of the rank's part."""
    trainer = made()
    trainer.forward_backward("m", batch())
    grads = [value.grad for value in trainer._model("m").trained.values() if value.grad is not None]
    whole_norm = torch.nn.utils.get_total_norm([whole(value) for value in grads])
    torch.testing.assert_close(shards.total_norm(grads), whole_norm, rtol=1e-5, atol=0)
    assert shards.all_finite(grads)
    if dist.get_rank() == 1:
        shards.local(grads[-1])[-1:] = torch.inf
    assert not shards.all_finite(grads)
    with pytest.raises(BackendError, match="norm is not finite"):
        trainer.optim_step("m", ADAM | {"grad_clip_norm": 1.0}, None)
    assert trainer._model("m").optimizer.state == {}


def an_adapter_that_changes_nothing() -> None:
    """All ranks find alike that an adapter is untouched, and that it is not."""
    trainer = made("dense", 4)
    folder = Path(tempfile.mkdtemp(dir=ROOT))
    assert lora.changes_nothing(trainer._model("m").model)
    if dist.get_rank() == 0:
        with pytest.raises(BackendError, match="untouched"):
            trainer.save_sampler("m", folder, identity="x", checkpoint_type="merged_base")
    step(trainer)
    assert not lora.changes_nothing(trainer._model("m").model)


def ranks_with_other_seeds() -> None:
    """Ranks begin alike, whatever numbers each of them would draw."""
    torch.manual_seed(dist.get_rank() + 100)
    for kind, rank in (("dense", 0), ("dense", 4), ("moe", 4)):
        trainer = made(kind, rank)
        found: list[Any] = [None, None]
        dist.all_gather_object(found, [float(value.sum()) for value in weights(trainer).values()])
        assert found[0] == found[1]
    torch.manual_seed(0)


def adapters_stay_alike() -> None:
    """Each rank's adapter has taken the steps of all ranks' datums."""
    trainer, alone = pair("moe", 4)
    for seed in range(3):
        step(trainer, seed)
        step(alone, seed)
    found: list[Any] = [None, None]
    dist.all_gather_object(found, {name: value.tolist() for name, value in weights(trainer).items()})
    assert found[0] == found[1]


def an_adapter_that_is_loaded() -> None:
    """Numbers that come into an adapter later are on all ranks, and its gradients are summed as before."""
    source = made("dense", 4, TorchTrainer)
    step(source)
    box = [tempfile.mkdtemp(dir=ROOT)]
    dist.broadcast_object_list(box)
    if dist.get_rank() == 0:
        source.save_sampler("m", Path(box[0]), identity="x")
    dist.barrier()
    ours, theirs = pair("dense", 4)
    for one in (ours, theirs):
        one.load_adapter("m", Path(box[0]))
        one.forward_backward("m", batch(lengths=LENGTHS, seed=1))
    assert same(weights(ours), weights(source))
    assert not any(shards.is_sharded(value) for value in ours._model("m").trained.values())
    check_close(gradients(ours), gradients(theirs))


def a_merge_after_steps() -> None:
    """Base and adapter merged on the group are those merged in one process from the same state."""
    ours, theirs = pair("dense", 4)
    step(ours)
    theirs.load_state("m", saved(ours), optimizer=True)
    box = [tempfile.mkdtemp(dir=ROOT)]
    dist.broadcast_object_list(box)
    merged, alone = Path(box[0]), Path(tempfile.mkdtemp(dir=ROOT))
    ours.save_sampler("m", merged, identity="x", checkpoint_type="merged_base")
    theirs.save_sampler("m", alone, identity="x", checkpoint_type="merged_base")
    dist.barrier()
    assert same(*(load_file(one / "model.safetensors") for one in (merged, alone)))
    assert same(weights(ours), weights(theirs))  # merging has not changed what is trained
    check_close(dict(weights(ours)), dict(weights(theirs)))


def frozen_weights_stay_frozen() -> None:
    for kind in ("dense", "moe"):
        trainer = made(kind, 4)
        frozen = {
            name: value.clone() for name, value in trainer._model("m").model.named_parameters() if "lora_" not in name
        }
        step(trainer)
        trainer.forward("m", batch())
        for name, value in trainer._model("m").model.named_parameters():
            if name in frozen:
                assert not value.requires_grad
                assert torch.equal(frozen[name], value)


def a_frozen_reference() -> None:
    trainer, alone = made(base_only=True), made(cls=TorchTrainer, base_only=True)
    told, expected = (one.forward("m", batch()) for one in (trainer, alone))
    if dist.get_rank() == 0:
        for one, other in zip(told["loss_fn_outputs"], expected["loss_fn_outputs"], strict=True):
            torch.testing.assert_close(torch.tensor(one["logprobs"]["data"]), torch.tensor(other["logprobs"]["data"]))


def moments_by_name() -> None:
    """A state that one process saved gives each rank its part of the moments of that name."""
    alone = made(cls=TorchTrainer)
    for seed in range(2):
        step(alone, seed)
    box = [tempfile.mkdtemp(dir=ROOT)]
    dist.broadcast_object_list(box)
    if dist.get_rank() == 0:
        alone.save_state("m", Path(box[0]))
    dist.barrier()
    trainer = made()
    trainer.load_state("m", Path(box[0]), optimizer=True)
    for name, value in trainer._model("m").trained.items():
        held = trainer._model("m").optimizer.state[value]
        expected = alone._model("m").optimizer.state[alone._model("m").trained[name]]
        assert all(torch.equal(whole(held[key]), expected[key]) for key in ("exp_avg", "exp_avg_sq", "step"))
    assert shards.is_sharded(next(iter(trainer._model("m").optimizer.state.values()))["exp_avg"])


CASES: dict[str, Callable[[], None]] = {
    one.__name__: one
    for one in (
        unequal_token_counts,
        a_rank_without_tokens,
        an_expert_without_tokens,
        scores_in_blocks,
        blocks_on_one_rank_alone,
        a_block_that_fails,
        layers_that_keep_nothing,
        half_precision,
        states_in_half_precision,
        losses_that_look_at_rows,
        a_parameter_without_a_gradient,
        a_save_before_the_first_step,
        an_optimizer_made_after_a_forward,
        a_failed_operation,
        weights_that_diverged_on_one_rank,
        answers_about_sharded_tensors,
        an_adapter_that_changes_nothing,
        ranks_with_other_seeds,
        adapters_stay_alike,
        an_adapter_that_is_loaded,
        a_merge_after_steps,
        frozen_weights_stay_frozen,
        a_frozen_reference,
        moments_by_name,
    )
}


def main() -> None:
    dist.init_process_group("gloo", timeout=timedelta(seconds=30))
    results = {}
    for name, case in CASES.items():
        try:
            case()
            results[name] = ""
        except BaseException:
            results[name] = traceback.format_exc()
    (ROOT / f"results-{dist.get_rank()}.json").write_text(json.dumps(results))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
