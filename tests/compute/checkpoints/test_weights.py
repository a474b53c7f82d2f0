"""Weights that other writers left, and damaged ones: served exactly, or refused while the replica serves on."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint import state_dict_saver
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

from emulator.backend import BackendError
from ftsim.compute.checkpoints import delta
from ftsim.compute.models.catalogue import base_folder
from ftsim.compute.quiet import quiet
from ftsim.compute.sampler.replica import TorchReplica
from ftsim.compute.sampler.weights import fingerprint

Format = Literal["arc_v1", "arc_v2", "arc_v3"]
FORMATS: tuple[Format, ...] = ("arc_v1", "arc_v2", "arc_v3")


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base_folder("accounts/fireworks/models/qwen3-4b", tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def new(old: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model one step on, and under a config that says so."""
    folder = tmp_path_factory.mktemp("new")
    copied(old, folder)
    tensors = load_file(old / "model.safetensors")
    save_file({name: value + 1e-3 for name, value in tensors.items()}, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((old / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps(config | {"step": 1}))
    return folder


def copied(folder: Path, into: Path) -> None:
    for path in folder.iterdir():
        if path.is_file() and path.suffix != ".safetensors":
            (into / path.name).write_bytes(path.read_bytes())


@pytest.fixture
def replica(old: Path) -> Iterator[TorchReplica]:
    replica = TorchReplica(old)
    yield replica
    replica.close()


def by_torch(source: Path, folder: Path, *, distributed: bool) -> Path:
    folder.mkdir()
    tensors = load_file(source / "model.safetensors")
    files = {name: index % 2 + 1 for index, name in enumerate(tensors)}
    writer = HuggingFaceStorageWriter(str(folder), files, save_distributed=distributed)
    with quiet():
        state_dict_saver.save(tensors, storage_writer=writer, no_dist=True)
    copied(source, folder)
    return folder


def test_a_folder_by_the_storage_writer_of_torch_is_served_as_it_is(
    replica: TorchReplica, new: Path, tmp_path: Path
) -> None:
    replica.load_base(by_torch(new, tmp_path / "folder", distributed=False), "s1")
    assert fingerprint_of(replica) == fingerprint(new)


def test_shards_of_ranks_that_nobody_put_together_are_refused(replica: TorchReplica, new: Path, tmp_path: Path) -> None:
    before = replica.fingerprint()
    folder = by_torch(new, tmp_path / "folder", distributed=True)
    with pytest.raises(BackendError, match="does not open as a model"):
        replica.load_base(folder, "s1")
    assert replica.fingerprint() == before


@pytest.mark.parametrize("format", FORMATS)
def test_a_delta_of_whole_folders_by_the_codec_gives_the_new_weights(
    replica: TorchReplica, old: Path, new: Path, tmp_path: Path, format: Format
) -> None:
    from fireworks_delta_compression import delta_compress_dirs

    with quiet():
        delta_compress_dirs(str(old), str(new), str(tmp_path / "delta"), compression_format=format)
    replica.apply_delta(tmp_path / "delta", "s1", compression_format=format)
    assert fingerprint(new) == fingerprint_of(replica)


def fingerprint_of(replica: TorchReplica) -> str:
    return replica._weights.fingerprint()


def made(old: Path, new: Path, folder: Path, format: Format) -> Path:
    folder.mkdir()
    before, after = (load_file(one / "model.safetensors") for one in (old, new))
    delta.write_delta(before, after, folder, {"config.json": (new / "config.json").read_bytes()}, format)
    return folder


def test_a_delta_of_ours_brings_the_new_config_along(old: Path, new: Path, tmp_path: Path) -> None:
    assert json.loads((made(old, new, tmp_path / "delta", "arc_v2") / "config.json").read_bytes())["step"] == 1


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("damage", ["flipped", "truncated", "checksum"])
def test_a_damaged_delta_is_refused_with_its_file_and_never_served(
    replica: TorchReplica, old: Path, new: Path, tmp_path: Path, format: Format, damage: str
) -> None:
    folder = made(old, new, tmp_path / "delta", format)
    shard = folder / "model.safetensors"
    whole, before, right = shard.read_bytes(), fingerprint_of(replica), fingerprint(new)
    header = 8 + int.from_bytes(whole[:8], "little")
    draw = random.Random(0)
    for _ in range(4):
        if damage == "truncated":
            shard.write_bytes(whole[: draw.randrange(header, len(whole))])
        elif damage == "flipped":
            content = bytearray(whole)
            content[draw.randrange(header, len(whole))] ^= 1 << draw.randrange(8)
            shard.write_bytes(content)
        else:
            spoil_sum(shard, whole)
        refused = refusal(replica, folder, format)
        if damage == "flipped" and not refused:  # a bit that the codec does not read
            assert fingerprint_of(replica) == right
            replica.load_base(old, "s0")
            continue
        assert "model.safetensors" in refused
        assert fingerprint_of(replica) == before


def refusal(replica: TorchReplica, folder: Path, format: Format) -> str:
    """The sentence with which a delta is refused, "" when it is not."""
    try:
        replica.apply_delta(folder, "s1", compression_format=format)
    except BackendError as error:
        return error.message
    return ""


def spoil_sum(shard: Path, whole: bytes) -> None:
    """Another checksum of the first tensor, in the metadata of the file."""
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    sums = header["__metadata__"]
    name = next(name for name in sorted(sums) if name != "format")
    sums[name] = sums[name][:-1] + ("0" if sums[name][-1] != "0" else "1")
    text = json.dumps(header).encode()
    shard.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + length :])


def test_a_truncated_weight_file_is_refused_by_name(replica: TorchReplica, new: Path, tmp_path: Path) -> None:
    before = replica.fingerprint()
    copied(new, tmp_path)
    (tmp_path / "model.safetensors").write_bytes((new / "model.safetensors").read_bytes()[:-1000])
    with pytest.raises(BackendError, match="does not open as a model"):
        replica.load_base(tmp_path, "s1")
    assert replica.fingerprint() == before
