"""Digests of files (XXH3, 128 bits): taken when a file is saved, and checked when it is used."""

import mmap
import os
import threading
from collections.abc import Mapping
from pathlib import Path

import xxhash

from emulator.core.errors import Damaged

LARGE = 1 << 20
"""Bytes that are read at a time; a larger file is sent to the disk while its digest is taken."""


def digest(path: Path) -> str:
    """The digest of one file's bytes."""
    found = xxhash.xxh3_128()
    buffer = memoryview(bytearray(LARGE))
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(buffer):
            found.update(buffer[:size])
    return found.hexdigest()


def mapped_digests(
    paths: Mapping[str, Path], expected: Mapping[str, str] | None = None, what: str = ""
) -> dict[str, str]:
    """As `digest`, in half the time, of files that nobody makes shorter meanwhile: that would end the process.

    Raises Damaged unless those of a copy are what was `expected`; `what` names the row. `Digests` knows a file again by
    inode, size and time, which a disk does not change where it loses a bit: so a copy is looked at for itself.
    """
    found = {name: _mapped(path) for name, path in paths.items()}
    for name, digest_then in (expected or {}).items():
        if found.get(name) != digest_then:
            raise _damaged(what, name)
    return found


def _mapped(path: Path) -> str:
    with path.open("rb", buffering=0) as file:
        if os.fstat(file.fileno()).st_size < LARGE:
            return xxhash.xxh3_128_hexdigest(file.readall())
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return xxhash.xxh3_128_hexdigest(content)


class Digests:
    """Checks files, each once as long as nobody writes to it: inode, size and time of change say so."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, int, int, str]] = {}
        self._lock = threading.Lock()

    def of(self, path: Path) -> str:
        """The digest of a file as it is now; raises OSError."""
        stamp = _stamp(path)
        with self._lock:
            known = self._known.get(str(path))
        if known is not None and known[:3] == stamp:
            return known[3]
        found = digest(path)
        with self._lock:
            self._known[str(path)] = (*stamp, found)
        return found

    def learn(self, folder: Path, found: Mapping[str, str]) -> None:
        """Remember what the bytes of a folder's files were just seen to be, by their relative names."""
        learnt = {str(folder / name): (*_stamp(folder / name), one) for name, one in found.items()}
        with self._lock:
            self._known |= learnt

    def forget(self, folder: Path) -> None:
        """Let go of what was known of the files of a folder that is gone."""
        prefix = f"{folder}/"
        with self._lock:
            for path in [path for path in self._known if path.startswith(prefix)]:
                del self._known[path]

    def check(self, folder: Path, expected: Mapping[str, str], what: str) -> None:
        """Raises Damaged unless every file is there with the bytes that were written; `what` names the row."""
        for name, digest_then in expected.items():
            path = folder / name
            try:
                if path.is_symlink() or self.of(path) != digest_then:
                    raise _damaged(what, name)
            except OSError as error:
                raise _damaged(what, name, f"cannot be read ({error.strerror or error})") from None


def _damaged(what: str, name: str, reason: str = "is not what was saved") -> Damaged:
    return Damaged(
        f"{what} is damaged on disk: {name} {reason}; use another checkpoint or save it again "
        "(`ftsim state verify` looks at all of them)"
    )


def _stamp(path: Path) -> tuple[int, int, int]:
    found = os.stat(path)
    return found.st_ino, found.st_size, found.st_mtime_ns
