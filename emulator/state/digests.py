"""Digests of a blob's files (XXH3, 128 bits): against damage, not against an enemy, who could change the row too."""

import os
import threading
from collections.abc import Mapping
from pathlib import Path

import xxhash

from emulator.core.errors import Damaged

RECORD = ".ftsim.json"
"""What a blob says of itself; no part of the checkpoint."""
_CHUNK = 1 << 20


def files(folder: Path) -> dict[str, Path]:
    """The files that a checkpoint consists of, by their relative names; links are not followed."""
    return {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and path != folder / RECORD
    }


def digest(path: Path) -> str:
    """The digest of one file's bytes."""
    found = xxhash.xxh3_128()
    buffer = memoryview(bytearray(_CHUNK))
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(buffer):
            found.update(buffer[:size])
    return found.hexdigest()


def digests_of(folder: Path) -> dict[str, str]:
    """The digest of each file of a folder, by its relative name; raises OSError."""
    return {name: digest(path) for name, path in files(folder).items()}


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
                whole = not path.is_symlink() and self.of(path) == digest_then
                reason = "is not what was saved"
            except OSError as error:
                whole, reason = False, f"cannot be read ({error.strerror or error})"
            if not whole:
                raise Damaged(
                    f"{what} is damaged on disk: {name} {reason}; use another checkpoint or save it again "
                    "(`ftsim state verify` looks at all of them)"
                )


def _stamp(path: Path) -> tuple[int, int, int]:
    found = os.stat(path)
    return found.st_ino, found.st_size, found.st_mtime_ns
