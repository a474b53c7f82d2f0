"""The store keeps the entities that a world writes through: here in memory, `emulator.state.database` in a file."""

from collections.abc import Generator, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from emulator.core.errors import StorageFailed
from emulator.state.sums import Siblings, account_of, parent_of

Key = tuple[str, str]


class Row(NamedTuple):
    """An entity to be stored: its fields as JSON, the blob that it points at ("" for none), its latest moment."""

    body: bytes
    blob: str = ""
    moment: int = 0


class Store:
    """Entities by kind and key, in memory and gone at the end. Writes are one transaction each.

    `trouble` says why nothing can be stored any more, "" when all is well; `read_only` why nothing could be from the
    start on; `unread` that something was stored once and cannot be read any more.
    """

    def __init__(self) -> None:
        self.folder: Path | None = None
        """Where files may stand that belong to these rows alone; None in memory and on a server."""
        self.read_only = ""
        self.trouble = ""
        self.unread = ""
        self.shared = False
        """True where several processes have a part each: an account is read once this one has the lease on it."""
        self._kinds: dict[str, dict[str, bytes]] = {}

    def freeze(self, reason: str) -> None:
        """Store nothing from now on, but remember in memory what reads bring about."""
        self.read_only = reason

    def write(
        self, changed: Mapping[Key, Mapping[str, Any]], removed: Iterable[Key] = (), *, synced: bool = True
    ) -> None:
        """Store and remove entities in one transaction.

        With `synced` it has reached the disk when this returns: nothing is acknowledged otherwise. Raises StorageFailed
        on a full disk, for a read-only folder, and when the folder is not there any more.
        """
        self._change(changed, removed, afresh=False, synced=synced)

    def replace(self, rows: Mapping[Key, Mapping[str, Any]]) -> None:
        """Forget everything else, in one transaction; raises StorageFailed, and then nothing changed."""
        self._change(rows, (), afresh=True, synced=True)

    def _change(
        self, changed: Mapping[Key, Mapping[str, Any]], removed: Iterable[Key], *, afresh: bool, synced: bool
    ) -> None:
        if not self.read_only:
            rows = {  # raises before anything is changed
                key: Row(orjson.dumps(body), str(body.get("blob") or ""), latest(body)) for key, body in changed.items()
            }
            self._write(rows, removed, afresh=afresh, synced=synced)
        elif synced:
            raise StorageFailed(self.read_only)

    def _write(self, rows: Mapping[Key, Row], removed: Iterable[Key], *, afresh: bool, synced: bool) -> None:
        if afresh:
            self._kinds.clear()
        for (kind, name), row in rows.items():
            self._kinds.setdefault(kind, {})[name] = row.body
        for kind, name in removed:
            self._kinds.get(kind, {}).pop(name, None)

    def read(self, kind: str, key: str) -> dict[str, Any] | None:
        """One entity; raises StorageFailed for what cannot be read, or is not what was stored."""
        body = self._kinds.get(kind, {}).get(key)
        return None if body is None else dict(orjson.loads(body))

    def all(self, kind: str) -> Generator[tuple[str, dict[str, Any]]]:
        """Every entity of a kind, in the order they were first written.

        Raises StorageFailed for what cannot be read, or is not what was stored; at the end for one that has gone.
        """
        for key, body in list(self._kinds.get(kind, {}).items()):
            yield key, orjson.loads(body)

    def of(self, kind: str, parent: str) -> list[tuple[str, dict[str, Any]]]:
        """The entities of a kind under one parent, in the order they were first written; raises StorageFailed."""
        return [(key, body) for key, body in self.all(kind) if parent_of(key) == parent]

    def families(self, kind: str) -> dict[str, Siblings]:
        """The parents of a kind's entities, and how many each has; raises StorageFailed."""
        found: dict[str, Siblings] = {}
        for key, body in self.all(kind):
            parent = parent_of(key)
            found[parent] = found.get(parent, Siblings()).beside(0, latest(body))
        return found

    def of_account(self, kind: str, account: str) -> list[tuple[str, dict[str, Any]]]:
        """As `all`, of one account's entities."""
        return [(key, body) for key, body in self.all(kind) if account_of(key) == account]

    def families_of_account(self, kind: str, account: str) -> dict[str, Siblings]:
        """As `families`, of one account's entities."""
        return {parent: found for parent, found in self.families(kind).items() if account_of(parent) == account}

    def begun(self) -> None:
        """Say that a start is over: what only starts take turns for is free again."""

    def blobs(self, kind: str) -> set[str]:
        """The blobs that entities of a kind point at; not looked at is whether this is what was stored."""
        return {body["blob"] for _, body in self.all(kind) if body.get("blob")}

    def look(self) -> str:
        """`trouble`, after a look at what lies in the folder."""
        return self.trouble

    def close(self) -> None:
        """Let go of what is open."""


def latest(fields: Mapping[str, Any]) -> int:
    """The latest moment that an entity's fields hold, in microseconds."""
    return max(int(fields.get("created") or 0), int(fields.get("updated") or 0))


def reading_alone(root: object, why: object) -> str:
    """Says why a state folder that cannot be written to is served for reading, and what to do."""
    return (
        f"the state folder {root} cannot be written ({why}): it is open for reading alone; free space or make it "
        "writable, and start again"
    )
