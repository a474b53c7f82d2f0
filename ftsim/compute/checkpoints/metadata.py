"""`.metadata` of a `torch.distributed.checkpoint` folder, read and written without that package.

The package imports sympy and the whole of distributed tensors, which is a second of CPU, and plans for many processes.
The file is a pickle of few classes. What is written unpickles to the same objects that torch's own writer leaves.
"""

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from importlib import import_module
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from ftsim.compute.checkpoints import archives
from ftsim.compute.checkpoints.opcodes import (
    FALSE,
    NONE,
    PROTOCOL,
    STOP,
    called,
    fields,
    listed,
    made,
    mapped,
    named,
    number,
    text,
    tupled,
)

FILE = ".metadata"
VERSION = "1.0.0"
_ROOM = "torch.distributed.checkpoint"
_METADATA = f"{_ROOM}.metadata"
_Place = tuple[str, int, int]
"""File, first byte and number of bytes of a piece."""


class MemoryFormat(Enum):
    """The order in which a tensor's numbers lie."""

    CONTIGUOUS = 0
    CHANNELS_LAST = 1
    PRESERVE = 2


class TensorProperties:
    """Type and layout of a tensor."""

    dtype: torch.dtype

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = state[0]


@dataclass
class ChunkStorageMetadata:
    """A part of a tensor: where it begins and how large it is."""

    offsets: torch.Size
    sizes: torch.Size


@dataclass
class TensorStorageMetadata:
    """A tensor that is stored in chunks."""

    properties: TensorProperties
    size: torch.Size
    chunks: list[ChunkStorageMetadata]


class BytesStorageMetadata:
    """Something that is stored and no tensor."""


@dataclass(frozen=True)
class MetadataIndex:
    """The name of a stored piece."""

    fqn: str
    offset: torch.Size | None = None
    index: int | None = field(hash=False, compare=False, default=None)


@dataclass
class StorageInfo:
    """The place of a stored piece."""

    relative_path: str
    offset: int
    length: int
    transform_descriptors: Sequence[str] | None = None


class StorageMeta:
    """The place and the save by which a folder was written."""


@dataclass
class Metadata:
    """All of the file."""

    state_dict_metadata: dict[str, Any]
    planner_data: Any = None
    storage_data: dict[MetadataIndex, StorageInfo] = field(default_factory=dict)
    storage_meta: StorageMeta | None = None
    version: str | None = None


_CLASSES: Mapping[tuple[str, str], Any] = {
    ("torch", "Size"): torch.Size,
    (f"{_ROOM}.filesystem", "_StorageInfo"): StorageInfo,
    **{
        (f"{_ROOM}.metadata", name): found
        for name, found in {
            "Metadata": Metadata,
            "MetadataIndex": MetadataIndex,
            "StorageMeta": StorageMeta,
            "TensorProperties": TensorProperties,
            "TensorStorageMetadata": TensorStorageMetadata,
            "BytesStorageMetadata": BytesStorageMetadata,
            "ChunkStorageMetadata": ChunkStorageMetadata,
            "_MEM_FORMAT_ENCODING": MemoryFormat,
        }.items()
    },
}


def unpickled(content: bytes) -> Any:
    """The object in a `.metadata`, read as data: no class but those it is made of; raises what a pickle can raise."""
    return _Unpickler(BytesIO(content)).load()


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _CLASSES:
            return _CLASSES[module, name]
        if (module, name) == ("torch.serialization", "_get_layout"):
            return getattr(import_module(module), name)
        if (module.partition(".")[0], name) in (("pathlib", "PosixPath"), ("pathlib", "WindowsPath")):
            return PurePosixPath  # the place where torch's own writer wrote, which is of no use here
        if module == "torch" and isinstance(found := getattr(torch, name, None), torch.dtype):
            return found
        raise pickle.UnpicklingError(f"{module}.{name} does not belong into a checkpoint")


def write_state(state: Mapping[str, Tensor], folder: Path) -> None:
    """Write tensors into an empty folder as one process of `torch.distributed.checkpoint` does; raises OSError.

    No path and no random id is in it: the same state gives the same bytes wherever it is saved.
    """
    name, places, start = "__0_0.distcp", list[_Place](), 0
    with (folder / name).open("wb") as file:
        for value in state.values():
            length = archives.write(value, file)
            places.append((name, start, length))
            start += length
    (folder / FILE).write_bytes(_pickled(state, places))


def _pickled(state: Mapping[str, Tensor], places: Sequence[_Place]) -> bytes:
    """A pickle of `Metadata`, opcode by opcode: pickle itself would import the package for the names of its classes."""
    names = {name: text(name) for name in state}
    tensors = [names[name] + _tensor(value.dtype, value.shape) for name, value in state.items()]
    paths = [names[name] + tupled(names[name]) for name in state]
    pieces = [
        _index(names[name], len(value.shape)) + _info(place)
        for (name, value), place in zip(state.items(), places, strict=True)
    ]
    meta = (("checkpoint_id", NONE), ("save_id", text("")), ("load_id", NONE), ("modules", listed()))
    content = (
        ("state_dict_metadata", mapped(*tensors)),
        ("planner_data", mapped(*paths)),
        ("storage_data", mapped(*pieces)),
        ("storage_meta", made(_METADATA, "StorageMeta", fields(*meta))),
        ("version", text(VERSION)),
    )
    return PROTOCOL + made(_METADATA, "Metadata", fields(*content)) + STOP


@lru_cache(1024)
def _tensor(dtype: torch.dtype, shape: torch.Size) -> bytes:
    """The entry of a tensor in one chunk."""
    layout = called("torch.serialization", "_get_layout", text("torch.strided"))
    order = called(_METADATA, "_MEM_FORMAT_ENCODING", number(0))
    kind = named("torch", str(dtype).removeprefix("torch."))
    properties = made(_METADATA, "TensorProperties", tupled(kind, layout, FALSE, order, FALSE))
    chunk = made(
        _METADATA, "ChunkStorageMetadata", fields(("offsets", _size(*[0] * len(shape))), ("sizes", _size(*shape)))
    )
    whole = (("properties", properties), ("size", _size(*shape)), ("chunks", listed(chunk)))
    return made(_METADATA, "TensorStorageMetadata", fields(*whole))


def _index(name: bytes, dimensions: int) -> bytes:
    parts = (("fqn", name), ("index", number(0)), ("offset", _size(*[0] * dimensions)))
    return made(_METADATA, "MetadataIndex", fields(*parts))


def _info(place: _Place) -> bytes:
    path, offset, length = place
    parts = (("relative_path", text(path)), ("offset", number(offset)), ("length", number(length)))
    return made(f"{_ROOM}.filesystem", "_StorageInfo", fields(*parts))


@lru_cache(1024)
def _size(*shape: int) -> bytes:
    return called("torch", "Size", tupled(*map(number, shape)))
