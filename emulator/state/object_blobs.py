"""Blobs on an object store, behind an fsspec URL such as `s3://bucket/prefix`, with copies in a local folder.

An object is there whole or not at all, and that is all that a store promises: many of them at once are not. So a blob's
files go first, several at a time and large ones in parts, then its record `.ftsim.json`, by which it counts as a blob,
and its row after that. A save that fails or dies leaves objects that no row points at, and one that dies also parts of
uploads: `ftsim state verify` finds them, `ftsim state gc` deletes them. A deletion goes the other way round.
"""

import logging
import os
import shutil
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from emulator.core.clock import Clock
from emulator.core.errors import Damaged, InvalidArgument, NotFound, StorageFailed, Unavailable
from emulator.state.blobs import RECORD, Blobs, files, strangers_among

T = TypeVar("T")

AT_A_TIME = 8
"""Files that are sent or fetched at a time."""
COPIES_BYTES = 20 * 10**9
"""What the local copies may take before the oldest go."""
IN_USE_S = 600.0
"""Seconds after its last use for which a copy stays, however much there is."""
_log = logging.getLogger(__name__)


class ObjectStore:
    """An object store below a URL; names are relative to it. Credentials come from the environment, as fsspec has them.

    Every method raises what the store's own library raises.
    """

    def __init__(self, url: str) -> None:
        """Raises InvalidArgument for a URL of a kind that nothing here knows, or whose package is not installed."""
        from fsspec.core import url_to_fs

        self.url = url.rstrip("/")
        try:
            self.fs, self.root = url_to_fs(self.url, use_listings_cache=False, skip_instance_cache=True)
        except (ImportError, ValueError) as error:
            raise InvalidArgument(f"--blobs {url} cannot be opened: {error}") from None

    def put(self, file: Path, name: str) -> None:
        """Make an object of a file, whole or not at all."""
        self.fs.put_file(str(file), self._path(name))

    def get(self, name: str, file: Path) -> None:
        self.fs.get_file(self._path(name), str(file))

    def write(self, name: str, content: bytes) -> None:
        self.fs.pipe_file(self._path(name), content)

    def read(self, name: str) -> bytes | None:
        """The bytes of an object, None when there is none."""
        try:
            return bytes(self.fs.cat_file(self._path(name)))
        except FileNotFoundError:
            return None

    def exists(self, name: str) -> bool:
        return bool(self.fs.exists(self._path(name)))

    def names(self, below: str = "") -> dict[str, dict[str, Any]]:
        """List what lies below a name, with what the store says of each object."""
        found = self.fs.find(self._path(below) if below else self.root, detail=True)
        return {path[len(self.root) + 1 :]: about for path, about in found.items()}

    def changed(self, name: str) -> int:
        """Return when an object was written, in seconds since the epoch."""
        return int(self.fs.modified(self._path(name)).timestamp())

    def remove(self, names: Iterable[str]) -> None:
        """Delete objects; those that are gone are no error."""
        if paths := [self._path(name) for name in names]:
            with suppress(FileNotFoundError):
                self.fs.rm(paths)

    def uploads(self) -> list[tuple[str, str, int]]:
        """List uploads in parts that are not whole: name, id, and when each was begun (seconds since the epoch).

        A store that has no such uploads, or ends them by itself, has none.
        """
        if not hasattr(self.fs, "abort_mpu"):
            return []
        bucket, prefix, _ = self.fs.split_path(self.root)
        found, mark = list[tuple[str, str, int]](), dict[str, str]()
        while True:
            page = self.fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=f"{prefix}/", **mark)
            for one in page.get("Uploads", ()):
                found.append((one["Key"][len(prefix) + 1 :], one["UploadId"], int(one["Initiated"].timestamp())))
            if not page.get("IsTruncated"):
                return found
            mark = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    def abort(self, name: str, upload: str) -> None:
        """Delete the parts of an upload."""
        bucket, key, _ = self.fs.split_path(self._path(name))
        with suppress(FileNotFoundError):
            self.fs.abort_mpu(bucket, key, upload)

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}"


class ObjectBlobs(Blobs):
    """Blobs on an object store; `root` has a copy of each that was saved or used here, in the same layout."""

    def __init__(
        self, store: ObjectStore, root: Path, *, home: Path, read_only: str = "", copies_bytes: int = COPIES_BYTES
    ) -> None:
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        super().__init__(root, durable=False, read_only=read_only, home=home)
        self.shared = True
        self.store = store
        self._copies_bytes = copies_bytes
        self._used: dict[str, tuple[float, int]] = {}  # by key: when last, and how many bytes
        self._using = threading.Lock()
        self._fetching: dict[str, threading.Lock] = {}
        self._sending = ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="objects")

    def exists(self, key: str) -> bool:
        with self._reading(key):
            return self.path(key).is_dir() or self.store.exists(f"{key}/{RECORD}")

    def fetch(self, key: str) -> Path:
        folder = self.path(key)
        with self._using:
            alone = self._fetching.setdefault(key, threading.Lock())
        with alone:
            if not folder.is_dir():
                self._copy(key, folder)
        if folder.is_dir():
            self._use(key)
        return folder

    def checked(self, key: str, expected: Mapping[str, str], what: str, gone: str) -> Path:
        return self._afresh(key, lambda: super(ObjectBlobs, self).checked(key, expected, what, gone))

    def staged_copy(self, key: str, expected: Mapping[str, str], what: str, gone: str) -> tuple[Path, dict[str, str]]:
        return self._afresh(key, lambda: super(ObjectBlobs, self).staged_copy(key, expected, what, gone))

    def _afresh(self, key: str, use: Callable[[], T]) -> T:
        """Use a blob, once more where it is damaged: its copy here may be, and what counts lies on the store."""
        try:
            return use()
        except Damaged:
            self._forget_copy(key)
            return use()

    def commit(self, staged: Path, key: str, digests: Mapping[str, str], record: bytes) -> Path:
        self.path(key)
        found = files(staged)
        try:
            with self._writing(key):
                list(self._sending.map(self.store.put, found.values(), (f"{key}/{name}" for name in found)))
                self.store.write(f"{key}/{RECORD}", record)
            target = super().commit(staged, key, digests, record)
        except StorageFailed:
            self.discard(staged)
            self._remove(key, found)
            raise
        self._use(key)
        return target

    def damage(self, key: str) -> None:
        self.fetch(key)
        super().damage(key)
        with self._writing(key):
            for name, file in files(self.path(key)).items():
                self.store.put(file, f"{key}/{name}")

    def pin(self, key: str) -> Path:
        self.fetch(key)
        return super().pin(key)

    def strangers(self, keep: Collection[str]) -> list[str]:
        with self._reading(""):
            return strangers_among(self.store.names(), keep)

    def set_aside(self, keep: Collection[str], name: str) -> list[str]:
        """Nothing is moved: what has no row may be what another process saves just now."""
        return []

    def delete(self, key: str) -> None:
        if self.read_only:
            return
        self._remove(key, None)
        self._forget_copy(key)

    def let_go(self, key: str) -> None:
        self._forget_copy(key)

    def parts(self, key: str) -> Iterator[tuple[int, int]]:
        with self._reading(key):
            found = [(int(about["size"]), self.store.changed(name)) for name, about in self.store.names(key).items()]
        return iter(found)

    def unfinished(self, before: int) -> dict[str, Callable[[], object]]:
        with self._reading(""):
            return {
                f"{name} (parts of an upload, {upload[:8]})": partial(self.store.abort, name, upload)
                for name, upload, begun in self.store.uploads()
                if begun <= before
            }

    def clear(self) -> None:
        with self._writing(""):
            self.store.remove(self.store.names())
        super().clear()
        self._used.clear()

    def _copy(self, key: str, folder: Path) -> None:
        """Bring a blob here; nothing when it is not on the store. Raises Unavailable."""
        with self._reading(key):
            if not self.store.exists(f"{key}/{RECORD}"):
                return
            aside = self._staging / f"copy-{next(self._numbers)}"
            places = {name: aside / name[len(key) + 1 :] for name in self.store.names(key)}
            try:
                for place in places.values():
                    place.parent.mkdir(parents=True, exist_ok=True)
                list(self._sending.map(self.store.get, places, places.values()))
                folder.parent.mkdir(parents=True, exist_ok=True)
                os.rename(aside, folder)
            finally:
                shutil.rmtree(aside, ignore_errors=True)

    def _remove(self, key: str, names: Collection[str] | None) -> None:
        """Delete a blob's objects, its record first; what a store that does not answer keeps is without a row."""
        try:
            self.store.remove([f"{key}/{RECORD}"])
            left = self.store.names(key) if names is None else [f"{key}/{name}" for name in names]
            self.store.remove(left)
        except Exception as error:
            _log.warning("ftsim: %s of %s cannot be deleted now (%s): `ftsim state gc`", key, self.store.url, error)

    def _forget_copy(self, key: str) -> None:
        with self._using:
            self._used.pop(key, None)
        shutil.rmtree(self.path(key), ignore_errors=True)
        self.digests.forget(self.path(key))

    def _use(self, key: str) -> None:
        """Note that a copy is in use, and let go of those that have not been for long, if there are too many."""
        now = Clock.elapsed()
        with self._using:
            size = self._used[key][1] if key in self._used else self.size(key)
            self._used[key] = now, size
            surplus = sum(size for _, size in self._used.values()) - self._copies_bytes
            gone = []
            for other, (when, taken) in sorted(self._used.items(), key=lambda item: item[1]):
                if surplus <= 0 or now - when < IN_USE_S:
                    break
                gone.append(other)
                surplus -= taken
        for other in gone:
            self._forget_copy(other)

    @contextmanager
    def _reading(self, key: str) -> Iterator[None]:
        """Raises Unavailable, which a client tries again, for whatever keeps the store from answering."""
        try:
            yield
        except (ValueError, NotFound):
            raise
        except Exception as error:
            raise Unavailable(f"{self.store.url} does not answer for {key or 'all'}: {error}") from error

    @contextmanager
    def _writing(self, key: str) -> Iterator[None]:
        """Raises StorageFailed for whatever keeps the store from taking something."""
        try:
            yield
        except Exception as error:
            raise StorageFailed(
                f"{self.store.url} did not take {key or 'it'} ({error}): save again; earlier checkpoints are intact"
            ) from error
