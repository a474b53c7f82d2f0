"""`async-save`: what is staged is what a save at once would have written, whatever the model does meanwhile."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from emulator.backend import SavedState
from ftsim.compute.checkpoints import delta
from ftsim.compute.checkpoints.source import WEIGHTS
from ftsim.compute.execution import Execution, Executions
from ftsim.compute.trainer.trainer import TorchTrainer
from tests.compute.trainer.conftest import Start, same, weights
from tests.compute.trainer.test_execution import moments, run

ASYNC = Execution(async_save=True)


def content(folder: Path) -> dict[str, Any]:
    """The bytes of a folder's files; of a delta its tensors, since the order in its header is chance."""
    found: dict[str, Any] = {}
    for path in sorted(folder.iterdir()):
        found[path.name] = path.read_bytes()
        if path.suffix == ".safetensors":
            found[path.name] = {
                name: (str(one.dtype), one.shape, one.reshape(-1).view(torch.uint8).numpy().tobytes())
                for name, one in load_file(path).items()
            }
    return found


def staged(trainer: TorchTrainer, folder: Path, how: str) -> SavedState:
    folder.mkdir()
    if how == "state":
        return trainer.save_state("m", folder)
    kind: Any = how
    return trainer.save_sampler("m", folder, identity=folder.name, checkpoint_type=kind)


def written(saved: SavedState) -> SavedState:
    assert saved.write is not None
    saved.write()
    saved.acknowledged()
    return saved


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("rank", "how"), [(0, "state"), (0, "base"), (0, "delta"), (4, "state"), (4, "base"), (4, "merged_base")]
)
def test_the_files_are_those_of_a_save_at_once(
    start: Start, tmp_path: Path, rank: int, how: str, precision: Any
) -> None:
    torch.manual_seed(0)
    plain, beside = (start("dense", rank, how=Execution(precision, async_save=later)) for later in (False, True))
    for trainer in (plain, beside):
        run(trainer, 0, 2)
    if how == "delta":
        staged(plain, tmp_path / "first", "base").acknowledged()
        (tmp_path / "first").rename(tmp_path / "other")
        written(staged(beside, tmp_path / "first", "base"))
        for trainer in (plain, beside):
            run(trainer, 2, 1)
    assert staged(plain, tmp_path / "plain", how).write is None
    saved = staged(beside, tmp_path / "beside", how)
    assert list((tmp_path / "beside").iterdir()) == []
    run(beside, 3, 2)
    written(saved)
    assert content(tmp_path / "beside") == content(tmp_path / "plain")


@pytest.mark.parametrize("rank", [0, 4])
def test_a_run_resumed_from_it_goes_on_to_the_bit(start: Start, tmp_path: Path, rank: int) -> None:
    whole, resumed = start("dense", rank, how=ASYNC), start("dense", rank, seed=8)
    run(whole, 0, 3)
    saved = staged(whole, tmp_path / "state", "state")
    losses = run(whole, 3, 2)
    written(saved)
    assert "async" not in json.dumps(json.loads((tmp_path / "state" / "training_state.json").read_text()))
    resumed.load_state("m", tmp_path / "state", optimizer=True)
    assert run(resumed, 3, 2) == losses
    assert same(weights(whole), weights(resumed))
    assert same(moments(whole), moments(resumed))


def test_the_memory_of_a_copy_serves_for_the_next_once_it_is_written(start: Start, tmp_path: Path) -> None:
    trainer = start("dense", how=ASYNC)
    live, plain = trainer._model("m"), start("dense")
    for one in (trainer, plain):
        run(one, 0, 1)
    written(staged(trainer, tmp_path / "first", "state"))
    places = {name: value.data_ptr() for name, value in live.staging.items()}
    for one in (trainer, plain):
        run(one, 1, 1)
    second = staged(trainer, tmp_path / "second", "state")
    staged(plain, tmp_path / "two", "state")
    run(trainer, 2, 1)
    third = staged(trainer, tmp_path / "third", "state")  # before the second is written: in memory of its own
    for saved in (third, second):
        written(saved)
    assert {name: value.data_ptr() for name, value in live.staging.items()} == places
    assert content(tmp_path / "second") == content(tmp_path / "two")
    assert content(tmp_path / "third") != content(tmp_path / "second")


def test_a_delta_is_over_the_save_that_was_acknowledged_last(start: Start, tmp_path: Path) -> None:
    trainer = start("dense", how=ASYNC)
    run(trainer, 0, 1)
    written(staged(trainer, tmp_path / "base", "base"))
    run(trainer, 1, 1)
    lost = staged(trainer, tmp_path / "lost", "delta")
    assert lost.write is not None
    lost.write()  # and nobody acknowledges it
    run(trainer, 2, 1)
    saved = staged(trainer, tmp_path / "next", "delta")
    now = weights(trainer)
    run(trainer, 3, 1)
    assert written(saved).previous_snapshot == "base"
    held = delta.apply_delta({WEIGHTS: load_file(tmp_path / "base" / WEIGHTS)}, tmp_path / "next")[WEIGHTS]
    assert now.keys() >= held.keys()
    assert all(torch.equal(value, now[name]) for name, value in held.items())


def test_ranks_that_write_together_refuse_it_at_the_start() -> None:
    assert Execution.parse("async-save") == ASYNC
    assert Execution.parse("bfloat16,async-save").words() == "bfloat16,async-save"
    with pytest.raises(ValueError, match="leave async-save out, or serve with one rank"):
        Executions(["qwen3-8b=async-save"]).refuse_in_groups()
