"""The pieces of a `torch.distributed.checkpoint` folder: each one a zip archive, as `torch.save` writes a tensor.

`torch.distributed.checkpoint` plans a load for many processes and runs `torch.load` on every piece, without a look at
the CRC-32 beside its bytes. Here one process reads: a small piece once, for its sums and for its numbers, a large one
right into the tensor that wants it.
"""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch import Tensor

from emulator.backend import BackendError
from ftsim.compute import libraries
from ftsim.compute.checkpoints.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageInfo,
    TensorStorageMetadata,
)

_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, length of the name, length of the extra field
_DATA = "/data/0"  # the record with the numbers, behind the name of the archive
_SMALL = 1 << 20
"""Bytes of a piece up to which it is read at once."""
_CHUNK = 1 << 20


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

    All pieces are checked, also those that nobody wants; raises `BackendError` when one is damaged or missing. Tensors
    without memory (on the device meta) are checked and not filled.
    """
    layouts: dict[tuple[bytes, ...], _Layout] = {}
    missing = _places(wanted, metadata)
    for index, place, file in _stored(folder, metadata):
        try:
            shape = missing.pop((index.fqn, index.offset), None)
            target = None if shape is None else _part(wanted[index.fqn], index.offset or torch.Size(), shape)
            if place.length > _SMALL:
                _read_large(_Section(file, place), target)
            else:
                _read_small(_read(file, place), target, layouts)
        except Exception:  # a damaged archive can fail in any way
            where = f"{place.relative_path} is damaged at {index.fqn}"
            raise BackendError(f"{folder.name} is a torn checkpoint: {where}; load an older one") from None
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


def _stored(folder: Path, metadata: Metadata) -> Iterator[tuple[MetadataIndex, StorageInfo, IO[bytes]]]:
    """Each stored piece with its place and its open file, in the order of the files."""
    places = sorted(metadata.storage_data.items(), key=lambda item: (item[1].relative_path, item[1].offset))
    opened, file = "", cast("IO[bytes]", BytesIO())
    try:
        for index, place in places:
            if place.relative_path != opened:
                file.close()
                opened, file = place.relative_path, (folder / place.relative_path).open("rb")
            yield index, place, file
    finally:
        file.close()


def _read(file: IO[bytes], place: StorageInfo) -> bytes:
    if not 0 <= place.offset <= place.offset + place.length:
        raise _Damaged
    file.seek(place.offset)
    piece = file.read(place.length)
    if len(piece) != place.length:
        raise _Damaged
    return piece


class _Section(io.RawIOBase):
    """A part of a file, as a file."""

    def __init__(self, file: IO[bytes], place: StorageInfo) -> None:
        size = file.seek(0, io.SEEK_END)
        if not 0 <= place.offset <= place.offset + place.length <= size:
            raise _Damaged
        self._file, self._start, self._length, self._at = file, place.offset, place.length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill as much of the buffer as the section has."""
        view = memoryview(buffer).cast("B")
        view = view[: max(0, self._length - self._at)]
        self._file.seek(self._start + self._at)
        done = 0
        while done < len(view) and (count := self._file.readinto(view[done:])):  # type: ignore[attr-defined]
            done += count
        self._at += done
        return done


def _read_small(piece: bytes, target: Tensor | None, layouts: "dict[tuple[bytes, ...], _Layout]") -> None:
    view, records = memoryview(bytearray(piece)), {}
    for entry, start in _entries(BytesIO(piece)):
        record = records[entry.filename] = view[start : start + entry.file_size]
        if zlib.crc32(record) != entry.CRC:
            raise _Damaged
    if target is not None:
        found = _tensor(piece, records, layouts)
        if found.shape != target.shape:
            raise _Damaged
        if not target.is_meta:
            target.copy_(found)


def _read_large(section: _Section, target: Tensor | None) -> None:
    """Check a piece; its numbers go right into the target where they lie as they do there, without a second copy."""
    into: memoryview | None = None
    entries = _entries(section)
    if target is not None:
        section.seek(0)
        libraries.import_meta()
        described = torch.load(cast("IO[bytes]", section), map_location="meta", weights_only=True)
        if type(described) is not Tensor or described.shape != target.shape:
            raise _Damaged
        if not target.is_meta:
            into = _memory(described, target)
    for entry, start in entries:
        if into is None or not entry.filename.endswith(_DATA):
            if _sum(section, start, entry.file_size) != entry.CRC:
                raise _Damaged
            continue
        section.seek(start)
        if entry.file_size != len(into) or section.readinto(into) != len(into) or zlib.crc32(into) != entry.CRC:
            raise _Damaged
    if target is not None and not target.is_meta and into is None:
        section.seek(0)
        target.copy_(torch.load(cast("IO[bytes]", section), map_location="cpu", weights_only=True))


def _memory(described: Tensor, target: Tensor) -> memoryview | None:
    """The bytes of a target into which a piece can be read as it lies in the file; None where it has to be copied."""
    size = target.numel() * target.element_size()
    plain = target.device.type == "cpu" and target.is_contiguous() and not (described.is_conj() or described.is_neg())
    same = described.dtype == target.dtype and described.is_contiguous() and not described.storage_offset()
    if not plain or not same or described.untyped_storage().nbytes() != size:
        return None
    return target.detach().view(-1).view(torch.uint8).numpy().data


def _sum(section: _Section, start: int, size: int) -> int:
    section.seek(start)
    buffer, found = memoryview(bytearray(min(size, _CHUNK))), 0
    while size > 0:
        count = section.readinto(buffer[: min(size, _CHUNK)])
        if not count:
            raise _Damaged
        found, size = zlib.crc32(buffer[:count], found), size - count
    return found


def _entries(piece: "BytesIO | _Section") -> list[tuple[zipfile.ZipInfo, int]]:
    """The records of an archive and where their bytes begin; fails in any way when it is damaged."""
    found = []
    for entry in zipfile.ZipFile(cast("IO[bytes]", piece)).infolist():
        piece.seek(entry.header_offset)
        signature, name, extra = _LOCAL_HEADER.unpack(piece.read(_LOCAL_HEADER.size) or b"")
        if signature != b"PK\3\4" or (piece.read(name) or b"").decode() != entry.orig_filename:
            raise _Damaged
        # Torch stores records as they are; a compressed one was not written by it.
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise _Damaged
        found.append((entry, entry.header_offset + _LOCAL_HEADER.size + name + extra))
    return found


def _tensor(piece: bytes, records: Mapping[str, memoryview], layouts: dict[tuple[bytes, ...], _Layout]) -> Tensor:
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
