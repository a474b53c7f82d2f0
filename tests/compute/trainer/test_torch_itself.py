"""Steps, slopes and states that are made without torch's heavier parts are those that they make."""

import errno
import pickle
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.metadata import StorageMeta

from ftsim.compute.checkpoints import archives, metadata, opcodes, pieces
from ftsim.compute.quiet import quiet
from ftsim.compute.trainer.head import push
from ftsim.compute.trainer.optimizer import AdamParams, create


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Writer(FileSystemWriter):
    def storage_meta(self) -> StorageMeta:
        return StorageMeta(save_id="")


def stored(folder: Path) -> list[dict[str, bytes]]:
    """The records of every piece of a state."""
    content = (folder / "__0_0.distcp").read_bytes()
    places = pickle.loads((folder / ".metadata").read_bytes()).storage_data.values()
    found = [zipfile.ZipFile(BytesIO(content[place.offset : place.offset + place.length])) for place in places]
    assert all(piece.testzip() is None for piece in found)
    return [{name: piece.read(name) for name in piece.namelist()} for piece in found]


def test_a_state_is_written_as_torch_writes_it(tmp_path: Path) -> None:
    state = {
        "model.a": drawn(3, 4),
        "model.half": torch.zeros(2, dtype=torch.bfloat16),
        "model.empty": torch.zeros(0, 3),
        "optimizer.step": torch.ones(()),
        "part": drawn(8, 8)[:3],
        "turned": drawn(4, 5).T,
        "large": drawn(700, 700),
        "large and turned": drawn(700, 800).T,
        "random": torch.get_rng_state(),
    }
    for name in ("mine", "theirs"):
        (tmp_path / name).mkdir()
    metadata.write_state(state, tmp_path / "mine")
    with quiet():
        state_dict_saver.save(state, storage_writer=Writer(tmp_path / "theirs", sync_files=False), no_dist=True)
    for mine, theirs in zip(*(stored(tmp_path / name) for name in ("mine", "theirs")), strict=True):
        assert mine.keys() == theirs.keys()
        assert {name for name in mine if mine[name] != theirs[name]} <= {"archive/.data/serialization_id"}
    told = [pickle.loads((tmp_path / name / ".metadata").read_bytes()) for name in ("mine", "theirs")]
    assert told[0] == told[1]
    assert list(told[0].storage_data) == list(told[1].storage_data)
    assert [one.index for one in told[0].storage_data] == [one.index for one in told[1].storage_data]
    read = {name: torch.zeros_like(value) for name, value in state.items()}
    with quiet():
        state_dict_loader.load(read, checkpoint_id=tmp_path / "mine", no_dist=True)
    assert all(torch.equal(value, read[name]) for name, value in state.items())
    ours = {name: torch.zeros_like(value) for name, value in state.items()}
    pieces.read_into(ours, tmp_path / "theirs", metadata.unpickled((tmp_path / "theirs/.metadata").read_bytes()))
    assert all(torch.equal(value, ours[name]) for name, value in state.items())


def test_places_beyond_two_gigabytes_can_be_written() -> None:
    for number in (0, -1, (1 << 31) - 1, 1 << 31, 1 << 40):
        assert pickle.loads(opcodes.PROTOCOL + opcodes.number(number) + opcodes.STOP) == number


def written(value: Tensor) -> bytes:
    file = BytesIO()
    assert archives.write(value, file) == len(file.getvalue())
    return file.getvalue()


def test_a_second_archive_of_a_shape_holds_its_own_numbers() -> None:
    for seed in range(3):
        value = drawn(6, 2, seed=seed)
        assert torch.equal(torch.load(BytesIO(written(value)), weights_only=True), value)
    large = torch.zeros(archives._LARGEST + 1, dtype=torch.uint8)
    assert len(written(large)) > archives._LARGEST


def test_a_disk_that_is_full_is_told_of_whatever_the_size() -> None:
    class Full(BytesIO):
        def write(self, part: Any) -> int:
            raise OSError(errno.ENOSPC, "full")

    for size in (10, 10 * archives._LARGEST):
        with pytest.raises(OSError, match="full"):
            archives.write(torch.zeros(size), Full())


def test_a_step_is_that_of_torchs_optimizer() -> None:
    mine, theirs = ([torch.nn.Parameter(drawn(5, 3, seed=seed)) for seed in range(3)] for _ in range(2))
    params = AdamParams(1e-2, 0.8, 0.9, 1e-9, 0.1)
    ours = create(mine)
    judge = torch.optim.AdamW(theirs, 1e-2, (0.8, 0.9), 1e-9, 0.1)
    for step in range(4):
        for number, pair in enumerate(zip(mine, theirs, strict=True)):
            for value in pair:
                value.grad = None if number == step == 2 else drawn(5, 3, seed=10 * step + number)
        ours.step(params)
        judge.step()
        ours.zero_grad()
        assert all(value.grad is None for value in mine)
    assert all(torch.equal(one, other) for one, other in zip(mine, theirs, strict=True))
    for one, other in zip(mine, theirs, strict=True):
        assert all(torch.equal(value, judge.state[other][name]) for name, value in ours.state[one].items())


def test_slopes_are_pushed_as_torch_pushes_them() -> None:
    gradients = []
    ways: tuple[Callable[[Tensor, Tensor], object], ...] = (push, torch.autograd.backward)
    for how in ways:
        leaf = drawn(6, 4).requires_grad_()
        how(torch.log_softmax(leaf @ drawn(4, 7, seed=1), -1), drawn(6, 7, seed=2))
        gradients.append(leaf.grad)
    assert torch.equal(*gradients)  # type: ignore[arg-type]
