"""The bytes that `torch.save` writes of a tensor, which is a zip archive of a description and the numbers.

Tensors of one type and shape differ in their numbers and in nothing else, so the archive of one of them serves for the
next: its numbers and their CRC-32 change. What also stays is `.data/serialization_id`, by which nothing is read: torch
derives it from the numbers.
"""

import struct
import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import IO, Any, cast

import torch
from torch import Tensor

_LARGEST = 1 << 16
"""Bytes of numbers beyond which an archive is not kept for the next."""
_CENTRAL = b"PK\1\2"


@dataclass(frozen=True)
class _Mould:
    """An archive, where its numbers are, and where the CRC-32 of them stands."""

    content: bytes
    start: int
    end: int
    sums: tuple[int, ...]


class _Sink:
    """Passes on to a file what torch writes, piece by piece; torch's own writer of files hides what the disk says."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.size = file, 0
        self.error: OSError | None = None

    def write(self, part: Any) -> int:
        """Write, and keep an error of the disk for later: torch's writer cannot be left by an exception."""
        try:
            if self.error is None:
                self._file.write(part)
        except OSError as error:
            self.error = error
        self.size += len(part)
        return len(part)

    def flush(self) -> None:
        """Leave it to the file."""


def write(value: Tensor, file: IO[bytes]) -> int:
    """Write what `torch.save` writes of a tensor, on the CPU and with nothing of a larger one behind it.

    Returns the number of bytes; a large tensor is never in memory twice. Raises OSError.
    """
    value = value.detach().cpu()
    size = value.numel() * value.element_size()
    if value.untyped_storage().nbytes() != size:
        value = value.clone()
    if size <= _LARGEST:
        return file.write(_archive(value))
    sink = _Sink(file)
    torch.save(value, cast("IO[bytes]", sink))
    if sink.error is not None:
        raise sink.error
    return sink.size


def _archive(value: Tensor) -> bytes:
    size = value.numel() * value.element_size()
    if not value.is_contiguous() or not size:
        return _saved(value)
    mould = _mould(value.dtype, value.shape)
    if mould is None:
        return _saved(value)
    made = bytearray(mould.content)
    made[mould.start : mould.end] = numbers = value.reshape(-1).view(torch.uint8).numpy().data
    for place in mould.sums:
        struct.pack_into("<I", made, place, zlib.crc32(numbers))
    return bytes(made)


def _saved(value: Tensor) -> bytes:
    piece = BytesIO()
    torch.save(value, piece)
    return piece.getvalue()


@lru_cache(256)
def _mould(dtype: torch.dtype, shape: torch.Size) -> _Mould | None:
    """The archive of zeros; None for one that does not look as it is expected to."""
    content = _saved(torch.zeros(shape, dtype=dtype))
    with zipfile.ZipFile(BytesIO(content)) as opened:
        entry = next(entry for entry in opened.infolist() if entry.filename.endswith("/data/0"))
        central = opened.start_dir
    name, extra = struct.unpack_from("<HH", content, entry.header_offset + 26)
    start = entry.header_offset + 30 + name + extra
    end = start + entry.file_size
    sums = [entry.header_offset + 14] if not entry.flag_bits & 8 else [end + 4]
    while content[central : central + 4] == _CENTRAL:
        lengths = struct.unpack_from("<HHH", content, central + 28)
        (offset,) = struct.unpack_from("<I", content, central + 42)
        if offset == entry.header_offset:
            sums.append(central + 16)
        central += 46 + sum(lengths)
    right = all(struct.unpack_from("<I", content, place)[0] == entry.CRC for place in sums)
    whole = entry.file_size == entry.compress_size == shape.numel() * dtype.itemsize
    return _Mould(content, start, end, tuple(sums)) if right and whole and len(sums) == 2 else None
