"""The full weights a replica holds: what a delta is applied to, and what is opened where a refill will not do."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from emulator.backend import BackendError
from ftsim.compute.checkpoints import delta
from ftsim.compute.checkpoints.source import TEMPLATES, weight_files
from ftsim.compute.checkpoints.tensors import write

Shards = Mapping[str, Mapping[str, Tensor]]
"""Tensors by the file they belong to."""


class ServedWeights:
    """Weights in a Hugging Face folder of our own, and from the first delta on in memory.

    A delta makes new tensors and touches neither those before it nor a file, so a load that fails has changed nothing.
    """

    def __init__(self, folder: Path, shards: Shards | None = None) -> None:
        """`shards` are newer than the weights in `folder`."""
        self.folder = folder
        self._shards = shards

    def shards(self) -> Shards:
        """The tensors as they are served, on the CPU and in the type of the files; raises `BackendError`."""
        return read_shards(self.folder) if self._shards is None else self._shards

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name, whatever file they are in; raises `BackendError`."""
        return {name: value for shard in self.shards().values() for name, value in shard.items()}

    def after(self, folder: Path, format: delta.Format) -> "ServedWeights":
        """Apply the delta in `folder` to these weights; raises `BackendError`."""
        return ServedWeights(self.folder, delta.apply_delta(self.shards(), folder, format))

    def written(self, fresh: Callable[[], Path]) -> Path:
        """A folder with these weights and the small files beside them; `fresh` makes an empty one where need be."""
        if self._shards is None:
            return self.folder
        folder = fresh()
        try:
            link_files(self.folder, folder, skip=self._shards)
            for name, tensors in self._shards.items():
                write(folder / name, tensors)
        except OSError as error:
            raise BackendError(f"the served weights cannot be written: {error.strerror or error}", "server") from error
        return folder

    def fingerprint(self) -> str:
        """A digest of the tensors, as `fingerprint` of a folder that holds them."""
        return digest(self.tensors())


def read_shards(folder: Path) -> Shards:
    """Every tensor of a folder's weight files, not yet read from the disk; raises `BackendError`."""
    adapter = folder / "adapter_model.safetensors"
    try:
        return {path.name: load_file(path) for path in ([adapter] if adapter.exists() else weight_files(folder))}
    except BackendError:
        raise
    except Exception as error:  # safetensors raises its own type
        raise BackendError(f"{folder.name} holds weights that cannot be read: {error}") from error


def fingerprint(folder: Path) -> str:
    """SHA-256 over the tensors of the safetensors files of a folder, whatever file they are in."""
    return ServedWeights(folder).fingerprint()


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name]
        total.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        total.update(value.contiguous().flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()


def link_files(source: Path, target: Path, names: Sequence[str] = (), skip: Iterable[str] = ()) -> None:
    """Put the files of a folder, or those of `names`, into another, sharing them where the file system can."""
    left_out = set(skip)
    for path in source.iterdir():
        if path.is_file() and (not names or path.name in names) and path.name not in left_out:
            _link(path, target / path.name)
        elif path.is_dir() and path.name == TEMPLATES and not names:
            (target / TEMPLATES).mkdir()
            link_files(path, target / TEMPLATES)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
