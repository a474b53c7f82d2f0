"""Folders that are buckets: a blob is written aside, fsynced, renamed into place; a torn one never appears.

Nothing that is not known is deleted: what no row points at goes to `lost+found` beside the root. A digest of every file
(XXH3, 128 bits) guards against damage, not against an enemy, who could change the row too.
"""

import errno
import itertools
import os
import platform
import shutil
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from emulator.core.errors import Damaged, NotFound, StorageFailed
from emulator.state.digests import Digests, digest, mapped_digests

SYNCING = 8
"""Files that are written to the disk at a time."""
LOST = "lost+found"
RECORD = ".ftsim.json"
"""What a blob says of itself; no part of the checkpoint."""
_PASSING = (".staging", ".trash-")


class Blobs:
    """Blobs under one root folder, addressed by relative keys such as `acct/jobs/j1/step-10`."""

    def __init__(
        self,
        root: Path,
        *,
        durable: bool = True,
        read_only: str = "",
        home: Path | None = None,
        shared: bool = False,
    ) -> None:
        """`durable=False` leaves out the fsyncs; `read_only` is a reason to refuse every save and to delete nothing.

        `home` is the folder of what else belongs to the emulator, the one around `root` by default. In a `shared` place
        other processes may be saving, too: what no row points at may be about to get one.
        """
        self.root = root
        self.home = home or root.parent
        self.shared = shared
        self._staging = root / (f".staging-{platform.node()}-{os.getpid()}" if shared else ".staging")
        self._durable = durable
        self.read_only = read_only
        self.digests = Digests()
        self._numbers = itertools.count()
        self._syncing = ThreadPoolExecutor(SYNCING, thread_name_prefix="sync")
        self._begun: dict[Path, dict[Path, Future[None]]] = {}  # by staged folder: files that change no more
        if read_only:
            return
        try:
            for left in (self._staging, *root.glob(".trash-*")):
                shutil.rmtree(left, ignore_errors=True)
            self._staging.mkdir(parents=True, exist_ok=True)
            if durable:
                sync(root.parent)
        except OSError as error:
            raise _explain(error, root) from error

    def path(self, key: str) -> Path:
        """The folder of the blob of this key; raises ValueError when the key would leave the root."""
        if key.startswith("/") or "\0" in key or any(part in ("", ".", "..") for part in key.split("/")):
            raise ValueError(f"not a blob key: {key[:120]!r}")
        return self.root / key

    def exists(self, key: str) -> bool:
        return self.path(key).is_dir()

    def fetch(self, key: str) -> Path:
        """The folder of the blob of this key, with its files in it wherever they are kept; none when there is none."""
        return self.path(key)

    def checked(self, key: str, expected: Mapping[str, str], what: str, gone: str) -> Path:
        """The folder of a blob that holds what was saved, to the bit; raises NotFound with `gone`, or Damaged.

        `what` names its row.
        """
        folder = self._there(key, gone)
        self.digests.check(folder, expected, what)
        return folder

    def _there(self, key: str, gone: str) -> Path:
        folder = self.fetch(key)
        if not folder.is_dir():
            raise NotFound(gone)
        return folder

    def stage(self) -> Path:
        """A fresh empty folder to write into; raises StorageFailed when the disk does not allow it."""
        if self.read_only:
            raise StorageFailed(self.read_only)
        folder = self._staging / str(next(self._numbers))
        try:
            folder.mkdir()
        except OSError as error:
            raise _explain(error, self.root) from error
        return folder

    def digest(self, staged: Path, expected: Mapping[str, str] | None = None, what: str = "") -> dict[str, str]:
        """The digest of each staged file by its name; they go to the disk meanwhile.

        Raises StorageFailed, and Damaged where they are not what is `expected` of `what`.
        """
        try:
            found = files(staged)
            if self._durable:
                self._begun[staged] = {path: self._syncing.submit(sync, path) for path in found.values()}
            return mapped_digests(found, expected, what)  # just written: they are read from memory
        except Damaged:
            self.discard(staged)
            raise
        except OSError as error:
            self.discard(staged)
            raise _explain(error, self.root) from error

    def commit(self, staged: Path, key: str, digests: Mapping[str, str], record: bytes) -> Path:
        """Make a staged folder durable under a new key, with a `record` of what it is.

        Raises StorageFailed, and then nothing of it stays.
        """
        target = self.path(key)
        try:
            (staged / RECORD).write_bytes(record)
            if self._durable:
                # Side by side, since a journalling file system then commits once for many, not once for each.
                begun = self._begun.pop(staged, {})
                list(self._syncing.map(sync, [path for path in (*staged.rglob("*"), staged) if path not in begun]))
                for one in begun.values():
                    one.result()
            self._make_parents(target.parent)
            os.rename(staged, target)
            staged = target  # of which nothing stays, either, if its name does not reach the disk
            if self._durable:
                sync(target.parent)
            self.digests.learn(target, digests)
        except OSError as error:
            self.discard(staged)
            raise _explain(error, self.root) from error
        return target

    def damage(self, key: str) -> None:
        """Change one bit in the middle of a blob's largest file, as a bad disk does; raises StorageFailed."""
        folder = self.path(key)
        try:
            victim = max(files(folder).values(), key=lambda path: path.stat().st_size)
            content = bytearray(victim.read_bytes())
            content[len(content) // 2] ^= 1
            victim.write_bytes(content)
        except OSError as error:
            raise _explain(error, self.root) from error
        self.digests.forget(folder)

    def pin(self, key: str) -> Path:
        """A staged folder with the files of a blob, which stay there when the blob goes; links are left out."""
        source, pinned = self.path(key), self.stage()
        for path in source.rglob("*"):
            if path.is_file() and not path.is_symlink():
                share_file(path, pinned / path.relative_to(source))
        return pinned

    def strangers(self, keep: Collection[str]) -> list[str]:
        """The keys of all folders and files that are no blob of `keep`: each the uppermost."""
        known, above = set(keep), _above(keep)
        waiting, found = [""], list[str]()
        while waiting:
            folder = waiting.pop()
            prefix = f"{folder}/" if folder else ""
            keys = {prefix + name for name in os.listdir(self.root / folder)}
            waiting += keys & above
            found += keys - above - known
        return sorted(key for key in found if not key.startswith(_PASSING))

    def set_aside(self, keep: Collection[str], name: str) -> list[str]:
        """Move whatever is no blob of `keep` into `lost+found/<name>` beside the root; returns the keys moved."""
        moved = []
        for key in [] if self.read_only else self.strangers(keep):
            path = self.path(key)
            if path.is_dir() and not any(item.is_file() or item.is_symlink() for item in path.rglob("*")):
                shutil.rmtree(path, ignore_errors=True)  # empty folders, in which a blob was
                continue
            target = self.root.parent / LOST / name / key
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                os.rename(path, target)
            except OSError as error:
                raise _explain(error, self.root) from error
            moved.append(key)
        return moved

    def staged_copy(self, key: str, expected: Mapping[str, str], what: str, gone: str) -> tuple[Path, dict[str, str]]:
        """Copy a blob's files into a staged folder, sharing disk blocks where the file system can.

        Returns the folder, and the digest of each file in it by its name. Raises as `checked`, of the copy.
        """
        source, staged = self._there(key, gone), self.stage()
        try:
            for file in source.iterdir():
                if file.is_file() and not file.is_symlink() and file.name != RECORD:
                    shutil.copyfile(file, staged / file.name)
        except OSError as error:
            self.discard(staged)
            raise _explain(error, self.root) from error
        return staged, self.digest(staged, expected, what)

    def failure(self, error: OSError) -> StorageFailed:
        """Tell people about a write below the root that the disk did not take."""
        return _explain(error, self.root)

    def discard(self, staged: Path) -> None:
        self._begun.pop(staged, None)
        shutil.rmtree(staged, ignore_errors=True)

    def delete(self, key: str) -> None:
        """Delete a blob whose row is gone. It leaves its place at once, so that a death meanwhile leaves no half."""
        if self.read_only:
            return
        path, trash = self.path(key), self.root / f".trash-{next(self._numbers)}-{os.getpid()}"
        try:
            os.rename(path, trash)
        except OSError:
            trash = path
        shutil.rmtree(trash, ignore_errors=True)
        self.digests.forget(path)

    def size(self, key: str) -> int:
        """Bytes of all files of a blob."""
        return sum(file.stat().st_size for file in files(self.path(key)).values())

    def let_go(self, key: str) -> None:
        """Say that a blob is not used here any more: a copy of one that is kept elsewhere may go."""

    def parts(self, key: str) -> Iterator[tuple[int, int]]:
        """The size of each file below a key, and when it was last written to (seconds since the epoch)."""
        path = self.path(key)
        for file in [path] if path.is_file() else path.rglob("*"):
            if file.is_file():
                yield file.stat().st_size, int(file.stat().st_mtime)

    def unfinished(self, before: int) -> "dict[str, Callable[[], object]]":
        """Find what was begun before a moment (seconds since the epoch), and is no file yet: by name what ends it."""
        return {}

    def clear(self) -> None:
        """Remove every blob; the files themselves go in the background."""
        trash = self.root / f".trash-{next(self._numbers)}"
        trash.mkdir()
        for child in list(self.root.iterdir()):
            if not child.name.startswith(".trash-"):
                child.rename(trash / child.name)
        self._staging.mkdir(parents=True, exist_ok=True)
        self.digests = Digests()
        threading.Thread(target=shutil.rmtree, args=(trash,), kwargs={"ignore_errors": True}, daemon=True).start()

    def _make_parents(self, folder: Path) -> None:
        """As mkdir(parents=True), and each new folder's name is on the disk, too; the root must be there."""
        missing = []
        while folder != self.root and not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for new in reversed(missing):
            new.mkdir(exist_ok=True)
            if self._durable:
                sync(new.parent)


def _above(keys: Collection[str]) -> set[str]:
    """All folders in which these lie."""
    above, upwards = set[str](), {key.rpartition("/")[0] for key in keys}
    while upwards:
        above |= upwards
        upwards = {key.rpartition("/")[0] for key in upwards} - above
    return above


def strangers_among(names: Iterable[str], keep: Collection[str]) -> list[str]:
    """As `Blobs.strangers`, of the names of files: the uppermost key of each that belongs to no blob of `keep`."""
    known, above, found = set(keep), _above(keep), set[str]()
    for name in names:
        parts = name.split("/")
        keys = ("/".join(parts[: count + 1]) for count in range(len(parts)))
        top = next((key for key in keys if key not in above), name)
        if top not in known:
            found.add(top)
    return sorted(found)


def share_file(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system has no links; raises OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on the disk; raises OSError."""
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
    if error.errno == errno.ENOENT and not root.is_dir():
        return StorageFailed(f"the state folder of {root} is gone: stop this emulator and start it again")
    return StorageFailed(f"cannot write below {root}: {error.strerror or error}")


def files(folder: Path) -> dict[str, Path]:
    """The files that a checkpoint consists of, by their relative names; links are not followed."""
    return {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and path != folder / RECORD
    }


def digests_of(folder: Path) -> dict[str, str]:
    """The digest of each file of a folder, by its relative name; raises OSError."""
    return {name: digest(path) for name, path in files(folder).items()}
