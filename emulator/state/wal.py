"""SQLite's write-ahead log, looked at before SQLite reads it: a damaged frame hides every commit behind it, in silence.

SQLite takes the log up to the first frame whose checksum is wrong, as a power loss leaves one at its end. Behind one
that a disk has changed may lie commits that were acknowledged. How many there are is told by the frames' headers, how
many were read by SQLite itself. Source: the file format of SQLite, section "The Write-Ahead Log".
"""

import shutil
import struct
from pathlib import Path

_HEADER = struct.Struct(">8I")
"""Magic, version, page size, checkpoint number, two salts, two checksums."""
_FRAME = struct.Struct(">6I")
"""Page number, pages of the database after a commit (else 0), two salts, two checksums."""
_BIG_ENDIAN = 0x377F0683
_TRIES = 20
"""Times that a database is copied until nobody wrote to it meanwhile."""


def copy(database: Path, folder: Path) -> None:
    """Copy a database and its log into a folder, as they were at one moment if they rest at all; raises OSError."""
    sources = (database, database.with_name(f"{database.name}-wal"))
    for _ in range(_TRIES):
        before = [_state(source) for source in sources]
        for source in sources:
            shutil.copyfile(source, folder / source.name)
        if [_state(source) for source in sources] == before:
            return


def last_commit(database: Path) -> int:
    """The number of the last frame that ends a commit in the log of this database, 0 without any; raises OSError.

    Frames of earlier rounds through the file are told by their salts. Where the log's own header is damaged, those of
    its first frame count.
    """
    log = database.with_name(f"{database.name}-wal")
    if not log.exists() or log.stat().st_size < _HEADER.size + _FRAME.size:
        return 0
    with log.open("rb") as file:
        begin = file.read(_HEADER.size)
        magic, _, page, _, *salts, _, _ = _HEADER.unpack(begin)
        size = _FRAME.size + (page if 512 <= page <= 65536 else 4096)
        if not _is_sound(begin, magic):
            _, _, *salts, _, _ = _FRAME.unpack(file.read(_FRAME.size))
        last = 0
        for number in range(1, (log.stat().st_size - _HEADER.size) // size + 1):
            file.seek(_HEADER.size + (number - 1) * size)
            _, pages, *own, _, _ = _FRAME.unpack(file.read(_FRAME.size))
            if own == salts and pages:
                last = number
        return last


def _is_sound(begin: bytes, magic: int) -> bool:
    """Tell whether the log's header has the checksum that it says."""
    words = struct.unpack(">6I" if magic == _BIG_ENDIAN else "<6I", begin[:24])
    first = second = 0
    for one, other in zip(words[::2], words[1::2], strict=True):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return (first, second) == struct.unpack(">2I", begin[24:32])


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns
