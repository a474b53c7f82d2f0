"""Places for the blobs of a database: a folder that all its processes see, or an object store.

    <place>/ftsim-state     the identity of the database that its blobs belong to
    <place>/blobs/...       the blobs

A place is marked before the first blob is saved: the blobs of one database beside the rows of another are refused.
"""

from pathlib import Path
from typing import Protocol

from emulator.core.errors import FailedPrecondition, StorageFailed
from emulator.state.blobs import Blobs, sync
from emulator.state.folder import BLOBS, MARK

COPIES = "copies"
"""The folder of a process in which copies of blobs on an object store lie."""


class Place(Protocol):
    """A place for blobs."""

    def belongs_to(self, identity: str) -> None:
        """Mark an empty place; raises FailedPrecondition for one of another database, or with things of others."""

    def blobs(self, home: Path, read_only: str = "", *, shared: bool = False) -> Blobs:
        """The blobs there, for a process with a folder `home` of its own; `shared` where others save there, too."""


class FolderPlace:
    """A folder on a file system that every process of the database has."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def belongs_to(self, identity: str) -> None:
        mark = self._root / MARK
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            found = mark.read_text("utf-8") if mark.exists() else None
            if not _check(str(self._root), found, identity, any(self._root.iterdir())):
                mark.write_text(identity, "utf-8")
                for path in (mark, self._root):
                    sync(path)
        except OSError as error:
            raise StorageFailed(f"{self._root} cannot be written: {error.strerror or error}") from error

    def blobs(self, home: Path, read_only: str = "", *, shared: bool = False) -> Blobs:
        (self._root / BLOBS).mkdir(exist_ok=True)
        return Blobs(self._root / BLOBS, read_only=read_only, home=home, shared=shared)


class ObjectPlace:
    """A prefix on an object store."""

    def __init__(self, url: str) -> None:
        from emulator.state.object_blobs import ObjectStore

        self._store = ObjectStore(url)

    def belongs_to(self, identity: str) -> None:
        store = self._store
        try:
            mark = store.read(MARK)
            if not _check(store.url, None if mark is None else mark.decode(), identity, bool(store.names())):
                store.write(MARK, identity.encode())
        except FailedPrecondition:
            raise
        except Exception as error:
            raise StorageFailed(f"{store.url} cannot be used: {error}") from error

    def blobs(self, home: Path, read_only: str = "", *, shared: bool = False) -> Blobs:
        from emulator.state.object_blobs import ObjectBlobs, ObjectStore

        return ObjectBlobs(ObjectStore(f"{self._store.url}/{BLOBS}"), home / COPIES, home=home, read_only=read_only)


def place_of(address: str) -> Place:
    """A place by its URL or folder; raises InvalidArgument for a URL that nothing here can open."""
    if "://" in address:
        return ObjectPlace(address)
    return FolderPlace(Path(address).expanduser().resolve())


def _check(place: str, mark: str | None, identity: str, filled: bool) -> bool:
    """Say whether a place is marked as this database's; raises FailedPrecondition for one that is somebody else's."""
    if mark is None and filled:
        raise FailedPrecondition(f"{place} holds things that are no blobs of ftsim: give an empty place")
    if mark not in (None, identity):
        raise FailedPrecondition(
            f"{place} has the blobs of another database: give that database, or an empty place; nothing was changed"
        )
    return mark is not None
