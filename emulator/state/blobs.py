"""Folders that are buckets: a blob is written aside, fsynced, renamed into place; a torn one never appears."""

import errno
import itertools
import os
import shutil
import threading
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from emulator.core.errors import StorageFailed

SYNCING = 8
"""Files that are written to the disk at a time."""


class Blobs:
    """Blobs under one root folder, addressed by relative keys such as `acct/jobs/j1/step-10`."""

    def __init__(self, root: Path, *, durable: bool = True) -> None:
        """`durable=False` leaves out the fsyncs, for a root that does not outlive the process."""
        self.root = root
        self._staging = root / ".staging"
        self._durable = durable
        self._numbers = itertools.count()
        self._syncing = ThreadPoolExecutor(SYNCING, thread_name_prefix="sync")
        try:
            for left in (self._staging, *root.glob(".trash-*")):
                shutil.rmtree(left, ignore_errors=True)
            self._staging.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _explain(error, root) from error

    def path(self, key: str) -> Path:
        """Where the blob of this key is; raises ValueError when the key would leave the root."""
        if key.startswith("/") or "\0" in key or any(part in ("", ".", "..") for part in key.split("/")):
            raise ValueError(f"not a blob key: {key[:120]!r}")
        return self.root / key

    def exists(self, key: str) -> bool:
        return self.path(key).is_dir()

    def stage(self) -> Path:
        """A fresh empty folder to write into; raises StorageFailed when the disk does not allow it."""
        folder = self._staging / str(next(self._numbers))
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise _explain(error, self.root) from error
        return folder

    def commit(self, staged: Path, key: str) -> Path:
        """Make a staged folder durable under a new key; raises StorageFailed, and then nothing of it stays."""
        target = self.path(key)
        try:
            if self._durable:
                self._sync_all([*staged.rglob("*"), staged])
            target.parent.mkdir(parents=True, exist_ok=True)
            os.rename(staged, target)
            if self._durable:
                _sync(target.parent)
        except OSError as error:
            self.discard(staged)
            raise _explain(error, self.root) from error
        return target

    def pin(self, key: str) -> Path:
        """A staged folder with the files of a blob, which stay there when the blob goes; links are left out."""
        source, pinned = self.path(key), self.stage()
        for path in source.rglob("*"):
            if path.is_file() and not path.is_symlink():
                target = pinned / path.relative_to(source)
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    os.link(path, target)
                except OSError:
                    shutil.copyfile(path, target)
        return pinned

    def sweep(self, keep: Collection[str]) -> None:
        """Remove what a death between a blob and its row left: every folder that is no blob of `keep`."""
        above = {str(parent) for key in keep for parent in Path(key).parents}
        waiting = [self.root]
        while waiting:
            for folder in waiting.pop().iterdir():
                key = folder.relative_to(self.root).as_posix()
                if key in above:
                    waiting.append(folder)
                elif key not in keep and not key.startswith("."):
                    shutil.rmtree(folder, ignore_errors=True)

    def copy_into(self, source: Path, staged: Path) -> None:
        """Copy a blob's files into a staged folder, sharing disk blocks where the file system can."""
        try:
            for file in source.iterdir():
                if file.is_file() and not file.is_symlink():
                    shutil.copyfile(file, staged / file.name)
        except OSError as error:
            raise _explain(error, self.root) from error

    def failure(self, error: OSError) -> StorageFailed:
        """What to tell people about a write below the root that the disk did not take."""
        return _explain(error, self.root)

    def discard(self, staged: Path) -> None:
        shutil.rmtree(staged, ignore_errors=True)

    def delete(self, key: str) -> None:
        shutil.rmtree(self.path(key), ignore_errors=True)

    def size(self, key: str) -> int:
        """Bytes of all files of a blob."""
        return sum(file.stat().st_size for file in self.path(key).rglob("*") if file.is_file())

    def clear(self) -> None:
        """Remove every blob; the files themselves go in the background."""
        trash = self.root / f".trash-{next(self._numbers)}"
        trash.mkdir()
        for child in list(self.root.iterdir()):
            if not child.name.startswith(".trash-"):
                child.rename(trash / child.name)
        self._staging.mkdir(parents=True, exist_ok=True)
        threading.Thread(target=shutil.rmtree, args=(trash,), kwargs={"ignore_errors": True}, daemon=True).start()

    def _sync_all(self, paths: Sequence[Path]) -> None:
        """Side by side, since a journalling file system then commits once for many, not once for each."""
        list(self._syncing.map(_sync, paths))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explain(error: OSError, root: Path) -> StorageFailed:
    if error.errno == errno.ENOSPC:
        return StorageFailed(
            f"no space left on the disk of {root}: free some and save again; earlier checkpoints are intact"
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return StorageFailed(f"{root} cannot be written: give a writable --state-dir; earlier checkpoints are intact")
    return StorageFailed(f"cannot write below {root}: {error.strerror or error}")
