"""Checks of an archive that may come from anybody: its members, their names, sizes and bytes."""

import hashlib
import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any

from emulator.core import limits

UNREADABLE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError)
"""Raised by the standard library for archives that are damaged, beside OSError and ValueError."""
TEXT_LIMIT = 256 * 1024**2
CHUNK = 1 << 20
_ENCRYPTED = 1


def believed(file: Path) -> int:
    """Return the number of bytes that an archive of this size may unpack to."""
    return limits.MIB + limits.ARCHIVE_RATIO.value * file.stat().st_size


def check_members(archive: zipfile.ZipFile, most_believed: int) -> None:
    """Read the directory of the archive; no member is read beyond the size that stands there."""
    members = archive.infolist()
    names = [member.filename for member in members]
    total, most, many = sum(member.file_size for member in members), limits.ARCHIVE.value, limits.ARCHIVE_FILES.value
    if len(members) > many or total > most:
        raise ValueError(f"more than {many} files or {most >> 30} GiB")
    if total > most_believed:
        raise ValueError(f"it unpacks to {total} bytes, over {limits.ARCHIVE_RATIO.value} times its size")
    if len(set(names)) != len(names):
        raise ValueError("a name stands in it twice")
    for member in members:
        plain(member.filename)
        if member.flag_bits & _ENCRYPTED or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{member.filename[:120]!r} is packed as no state is")
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise ValueError(f"{member.filename[:120]!r} is no plain file")


def check_declared(archive: zipfile.ZipFile, listed: Mapping[str, Mapping[str, tuple[int, str]]], texts: Any) -> None:
    """Every member stands in the manifest, the blobs' with their sizes; raises ValueError."""
    sizes = {f"blobs/{key}/{name}": size for key, files in listed.items() for name, (size, _) in files.items()}
    known = {"manifest.json", "world.json", *map(str, texts)}
    for member in archive.infolist():
        name = member.filename
        if name not in known and name not in sizes:
            raise ValueError(f"{name[:120]!r} is not in its manifest")
        if name in sizes and member.file_size != sizes[name]:
            raise ValueError(f"{name[:120]!r} has {member.file_size} bytes, not the {sizes[name]} of its manifest")


def plain(name: str) -> str:
    """A relative path that stays where it is; raises ValueError."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or "\\" in name or "\0" in name or str(PurePosixPath(name)) != name:
        raise ValueError(f"{name[:120]!r} is no plain path")
    if ".." in parts or ":" in parts[0]:
        raise ValueError(f"{name[:120]!r} leaves the archive")
    return name


def text(archive: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of a small member; raises ValueError for a larger one."""
    with archive.open(name) as member:
        raw = member.read(TEXT_LIMIT + 1)
    if len(raw) > TEXT_LIMIT:
        raise ValueError(f"{name} is over {TEXT_LIMIT >> 20} MiB")
    return raw


def copy(source: IO[bytes], out: IO[bytes], size: int, digest: str) -> None:
    """Copy a member of that size and SHA-256 digest; raises ValueError for another."""
    found, left = hashlib.sha256(), size
    while chunk := source.read(min(CHUNK, left + 1)):
        left -= len(chunk)
        if left < 0:
            raise ValueError(f"it is longer than {size} bytes")
        found.update(chunk)
        out.write(chunk)
    if left or found.hexdigest() != digest:
        raise ValueError("it is not what the manifest says")
