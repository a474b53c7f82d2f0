"""Training states that other programs wrote: read exactly, or refused by the name of what does not fit."""

import json
import pickle
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.checkpoint import state_dict_saver
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import MetadataIndex, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

from emulator.backend import BackendError
from ftsim.compute.checkpoints import dcp
from ftsim.compute.quiet import quiet
from ftsim.compute.trainer.trainer import TorchTrainer
from tests.compute.trainer.conftest import ADAM, Start, batch, folders, same, start, weights

__all__ = ["folders", "start"]


def run(trainer: TorchTrainer, steps: int = 2) -> TorchTrainer:
    for step in range(steps):
        trainer.forward_backward("m", batch(seed=step))
        trainer.optim_step("m", ADAM, "num_loss_tokens")
    return trainer


def moments(trainer: TorchTrainer) -> dict[str, Tensor]:
    live = trainer._model("m")
    states = {name: live.optimizer.state.get(value, {}) for name, value in live.trained.items()}
    return {f"{name}.{key}": value for name, state in states.items() for key, value in state.items()}


def described(folder: Path, trainer: TorchTrainer) -> Path:
    """The folder with the description that tells a whole training state."""
    live = trainer._model("m")
    files = {path.name: path.stat().st_size for path in folder.iterdir()}
    (folder / dcp.STATE_FILE).write_text(json.dumps(dcp._description(live) | {"files": files}))
    return folder


def written(folder: Path, trainer: TorchTrainer, state: Mapping[str, object]) -> Path:
    with quiet():
        state_dict_saver.save(dict(state), checkpoint_id=folder, no_dist=True)
    return described(folder, trainer)


def test_a_state_that_two_ranks_wrote_is_the_state_of_one(start: Start, tmp_path: Path) -> None:
    source = run(start("dense"))
    state = dcp.state_of(source._model("m"))
    save_file({name: value.contiguous() for name, value in state.items()}, tmp_path / "state.safetensors")
    arguments = [str(tmp_path / name) for name in ("meeting", "state.safetensors", "folder")]
    ranks = [
        subprocess.Popen([sys.executable, "-m", "tests.compute.checkpoints.ranks", str(rank), *arguments])
        for rank in range(2)
    ]
    assert [rank.wait(120) for rank in ranks] == [0, 0]
    folder = described(tmp_path / "folder", source)
    assert len(list(folder.glob("*.distcp"))) == 2
    resumed = start("dense", seed=5)
    resumed.load_state("m", folder, optimizer=True)
    assert same(weights(source), weights(resumed))
    assert same(moments(source), moments(resumed))


@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_a_parameter_that_never_had_a_gradient_is_saved_and_read(start: Start, tmp_path: Path, kind: str) -> None:
    source = start(kind)
    idle = next(name for name in source._model("m").trained if "experts" in name or "mlp" in name)
    for step in range(2):
        source.forward_backward("m", batch(seed=step))
        source._model("m").trained[idle].grad = None
        source.optim_step("m", ADAM, None)
    (tmp_path / "state").mkdir()
    source.save_state("m", tmp_path / "state")
    resumed = start(kind, seed=5)
    resumed.load_state("m", tmp_path / "state", optimizer=True)
    assert not any(name.startswith(f"{idle}.") for name in moments(resumed))
    assert same(moments(source), moments(resumed))
    for trainer in (source, resumed):
        run(trainer, 1)
    assert same(weights(source), weights(resumed))


def test_a_state_that_lacks_the_moments_of_a_parameter_is_refused_by_its_name(start: Start, tmp_path: Path) -> None:
    source = run(start("dense"))
    state = dcp.state_of(source._model("m"))
    lost = next(name for name in state if name.startswith("optimizer.exp_avg_sq."))
    del state[lost]
    folder = written(tmp_path / "state", source, state)
    with pytest.raises(BackendError, match=lost):
        start("dense").load_state("m", folder, optimizer=True)


@pytest.mark.parametrize("flat", [False, True])
def test_an_optimizer_state_as_torch_lays_it_out_is_refused_by_an_entry_of_it(
    start: Start, tmp_path: Path, flat: bool
) -> None:
    source = run(start("dense"))
    live = source._model("m")
    options = StateDictOptions(flatten_optimizer_state_dict=flat)
    judge = torch.optim.AdamW(live.trained.values())
    judge.state.update(live.optimizer.state)
    theirs = get_optimizer_state_dict(live.model, judge, options=options)
    state: dict[str, object] = {n: value for n, value in dcp.state_of(live).items() if not n.startswith("optimizer.")}
    folder = written(tmp_path / "state", source, state | {"optimizer": theirs})
    resumed = start("dense")
    before = weights(resumed)
    with pytest.raises(BackendError, match=r"holds optimizer\.\S+, which no training checkpoint of this trainer has"):
        resumed.load_state("m", folder, optimizer=True)
    assert same(before, weights(resumed))


@pytest.mark.parametrize("where", [0.1, 0.5, 0.9])
def test_a_flipped_bit_of_a_shard_is_refused_with_tensor_and_file(start: Start, tmp_path: Path, where: float) -> None:
    source = run(start("dense", 4))
    (tmp_path / "state").mkdir()
    source.save_state("m", tmp_path / "state")
    shard = tmp_path / "state" / "__0_0.distcp"
    content = bytearray(shard.read_bytes())
    content[int(len(content) * where)] ^= 1
    shard.write_bytes(content)
    resumed = start("dense", 4, seed=5)
    before = weights(resumed)
    with pytest.raises(BackendError, match=r"__0_0.distcp.*(model|optimizer|random)"):
        resumed.load_state("m", tmp_path / "state", optimizer=True)
    assert same(before, weights(resumed))


def test_a_state_whose_pieces_leave_a_hole_is_refused_and_changes_nothing(start: Start, tmp_path: Path) -> None:
    source = run(start("dense", 4))
    folder = written(tmp_path / "state", source, dcp.state_of(source._model("m")))
    path = folder / ".metadata"
    name = next(iter(source._model("m").trained))
    resumed = start("dense", 4, seed=5)
    before = weights(resumed)
    for hole in ("piece", "chunk", "overlap"):
        metadata = FileSystemReader(folder).read_metadata()
        entry = metadata.state_dict_metadata[f"model.{name}"]
        assert isinstance(entry, TensorStorageMetadata)
        (chunk,) = entry.chunks
        half = replace(chunk, sizes=torch.Size([chunk.sizes[0] // 2, *chunk.sizes[1:]]))
        if hole == "piece":
            del metadata.storage_data[MetadataIndex(f"model.{name}", chunk.offsets)]
        else:
            entry.chunks[:] = [half] if hole == "chunk" else [half, half]
        whole = path.read_bytes()
        path.write_bytes(pickle.dumps(metadata))
        (folder / dcp.STATE_FILE).unlink()
        described(folder, source)
        with pytest.raises(BackendError, match=rf"(lacks a piece|not hold all) of model\.{name}"):
            resumed.load_state("m", folder, optimizer=True)
        path.write_bytes(whole)
    assert same(before, weights(resumed))


def test_a_state_that_names_a_file_outside_its_folder_is_refused(start: Start, tmp_path: Path) -> None:
    source = run(start("dense", 4))
    folder = written(tmp_path / "state", source, dcp.state_of(source._model("m")))
    metadata = FileSystemReader(folder).read_metadata()
    first = next(iter(metadata.storage_data))
    place = metadata.storage_data[first]
    metadata.storage_data[first] = replace(place, relative_path=f"../state/{place.relative_path}")
    told = json.loads((folder / dcp.STATE_FILE).read_text())
    told["files"][f"../state/{place.relative_path}"] = told["files"][place.relative_path]
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    told["files"][".metadata"] = (folder / ".metadata").stat().st_size
    (folder / dcp.STATE_FILE).write_text(json.dumps(told))
    with pytest.raises(BackendError, match="metadata that no training checkpoint has"):
        start("dense", 4, seed=5).load_state("m", folder, optimizer=True)


def test_every_flipped_bit_that_reaches_the_numbers_of_a_shard_is_refused(start: Start, tmp_path: Path) -> None:
    source = run(start("dense", 4))
    folder = tmp_path / "state"
    folder.mkdir()
    source.save_state("m", folder)
    shard = folder / "__0_0.distcp"
    whole = shard.read_bytes()
    resumed = start("dense", 4, seed=5)
    before, refused = weights(resumed), 0
    for place in range(3, len(whole), len(whole) // 12):
        content = bytearray(whole)
        content[place] ^= 0x10
        shard.write_bytes(content)
        try:
            resumed.load_state("m", folder, optimizer=True)
        except BackendError:
            refused += 1
            assert same(before, weights(resumed))
        else:  # a byte of padding
            assert same(weights(source), weights(resumed))
            before = weights(resumed)
    assert refused
