"""The pieces of a `torch.distributed.checkpoint` folder: each one a zip archive, as `torch.save` writes a tensor.

`torch.distributed.checkpoint` plans a load for many processes and runs `torch.load` on every piece, without a look at
the CRC-32 beside its bytes. Here one process reads, so a piece is read once, for its sums and for its numbers.
"""

import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from emulator.backend import BackendError
from ftsim.compute.checkpoints.metadata import ChunkStorageMetadata, Metadata, MetadataIndex, TensorStorageMetadata

_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, length of the name, length of the extra field
_DATA = "/data/0"  # the record with the numbers, behind the name of the archive


class _Damaged(Exception):
    """A piece that is not what was written."""


@dataclass(frozen=True)
class _Layout:
    """The way in which the numbers of a piece lie in its bytes."""

    dtype: torch.dtype
    shape: torch.Size
    stride: tuple[int, ...]
    offset: int
    size: int


def read_into(wanted: Mapping[str, Tensor], folder: Path, metadata: Metadata) -> None:
    """Fill the tensors of `wanted`, whose shapes are those of `metadata`, from the files of `folder`.

    All pieces are checked, also those that nobody wants; raises `BackendError` when one is damaged or missing.
    """
    layouts: dict[tuple[bytes, ...], _Layout] = {}
    missing = _places(wanted, metadata)
    for index, piece, path in _pieces(folder, metadata):
        try:
            records = _records(piece)
            shape = missing.pop((index.fqn, index.offset), None)
            if shape is not None:
                found = _tensor(piece, records, layouts)
                if found.shape != shape:
                    raise _Damaged
                _part(wanted[index.fqn], index.offset or torch.Size(), shape).copy_(found)
        except Exception:  # a damaged archive can fail in any way
            raise BackendError(
                f"{folder.name} is a torn checkpoint: {path} is damaged at {index.fqn}; load an older one"
            ) from None
    if missing:
        name, _ = min(missing, key=str)
        raise BackendError(f"{folder.name} is a torn checkpoint: it lacks a piece of {name}; load an older one")


def _places(wanted: Mapping[str, Tensor], metadata: Metadata) -> dict[tuple[str, torch.Size | None], torch.Size]:
    """The shape of every piece of what is wanted, by name and offset; raises when they do not cover a tensor."""
    places: dict[tuple[str, torch.Size | None], torch.Size] = {}
    for name, value in wanted.items():
        chunks = cast(TensorStorageMetadata, metadata.state_dict_metadata[name]).chunks
        whole = len(chunks) == 1 and chunks[0].sizes == value.shape and not any(chunks[0].offsets)
        if not whole and not _covered(value.shape, chunks):
            raise BackendError(f"the checkpoint does not hold all of {name}; load an older one")
        places |= {(name, chunk.offsets): chunk.sizes for chunk in chunks}
    return places


def _covered(shape: torch.Size, chunks: Sequence[ChunkStorageMetadata]) -> bool:
    """Say whether the chunks fill a tensor of this shape, none on another; what nobody fills would be chance."""
    filled = torch.zeros(shape, dtype=torch.bool)
    try:
        for chunk in chunks:
            _part(filled, chunk.offsets, chunk.sizes).fill_(True)
    except (RuntimeError, IndexError, ValueError):  # it lies outside
        return False
    return bool(filled.all()) and sum(chunk.sizes.numel() for chunk in chunks) == shape.numel()


def _part(whole: Tensor, offset: torch.Size, shape: torch.Size) -> Tensor:
    for dimension, (start, length) in enumerate(zip(offset, shape, strict=True)):
        whole = whole.narrow(dimension, start, length)
    return whole


def _pieces(folder: Path, metadata: Metadata) -> Iterator[tuple[MetadataIndex, bytearray, str]]:
    """Each stored piece with its bytes, in the order of the files, and the name of its file."""
    places = sorted(metadata.storage_data.items(), key=lambda item: (item[1].relative_path, item[1].offset))
    opened: dict[str, int] = {}
    for index, place in places:
        path = folder / place.relative_path
        size = opened.setdefault(place.relative_path, path.stat().st_size)
        whole = 0 <= place.offset <= place.offset + place.length <= size
        piece = bytearray(place.length if whole else 0)
        with path.open("rb", buffering=0) as file:
            file.seek(place.offset if whole else 0)
            file.readinto(piece)
        yield index, piece, place.relative_path


def _records(piece: bytearray) -> dict[str, memoryview]:
    """The records of an archive by their names, each compared with its CRC-32; fails in any way when damaged."""
    view, records = memoryview(piece), {}
    for entry in zipfile.ZipFile(BytesIO(piece)).infolist():
        start = entry.header_offset
        signature, name, extra = _LOCAL_HEADER.unpack_from(piece, start)
        start += _LOCAL_HEADER.size
        if signature != b"PK\3\4" or piece[start : start + name].decode() != entry.orig_filename:
            raise _Damaged
        start += name + extra
        record = view[start : start + entry.file_size]
        # Torch stores records as they are; a compressed one was not written by it.
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 or zlib.crc32(record) != entry.CRC:
            raise _Damaged
        records[entry.filename] = record
    return records


def _tensor(piece: bytearray, records: Mapping[str, memoryview], layouts: dict[tuple[bytes, ...], _Layout]) -> Tensor:
    """The tensor of a piece. Torch reads each description once: pieces that share one differ in their numbers only."""
    data = [name for name in records if name.endswith(_DATA)]
    told = [record for name, record in records.items() if name.endswith(("/data.pkl", "/byteorder"))]
    key = (*(name.encode() for name in records), *(bytes(record) for record in told))
    layout = layouts.get(key)
    if layout and layout.size == len(records[data[0]]):
        numbers = torch.frombuffer(records[data[0]], dtype=layout.dtype)
        return numbers.as_strided(layout.shape, layout.stride, layout.offset)
    tensor = torch.load(BytesIO(piece), map_location="cpu", weights_only=True)
    if type(tensor) is not Tensor or tensor.layout is not torch.strided:
        raise _Damaged
    size = tensor.untyped_storage().nbytes()
    plain = not (tensor.is_conj() or tensor.is_neg() or tensor.requires_grad)
    if plain and len(data) == 1 and 0 < size == len(records[data[0]]) and size % tensor.dtype.itemsize == 0:
        layouts[key] = _Layout(tensor.dtype, tensor.shape, tensor.stride(), int(tensor.storage_offset()), size)
    return tensor.detach()
