"""The store keeps the entities that a world writes through: here in memory, `emulator.state.database` in a file."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from emulator.core.errors import StorageFailed

Key = tuple[str, str]


class Store:
    """Entities by kind and key, in memory and gone at the end. Writes are one transaction each.

    `trouble` says why nothing can be stored any more, "" when all is well; `read_only` why nothing could be from the
    start on.
    """

    def __init__(self) -> None:
        self.read_only = ""
        self.trouble = ""
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
            bodies = {key: orjson.dumps(body) for key, body in changed.items()}  # raises before anything is changed
            self._write(bodies, removed, afresh=afresh, synced=synced)
        elif synced:
            raise StorageFailed(self.read_only)

    def _write(self, bodies: Mapping[Key, bytes], removed: Iterable[Key], *, afresh: bool, synced: bool) -> None:
        if afresh:
            self._kinds.clear()
        for (kind, name), body in bodies.items():
            self._kinds.setdefault(kind, {})[name] = body
        for kind, name in removed:
            self._kinds.get(kind, {}).pop(name, None)

    def read(self, kind: str, key: str) -> dict[str, Any] | None:
        """One entity; raises StorageFailed for what cannot be read."""
        body = self._kinds.get(kind, {}).get(key)
        return None if body is None else dict(orjson.loads(body))

    def all(self, kind: str, *, ordered: bool = True) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every entity of a kind, in the order they were first written, or faster in any."""
        for key, body in list(self._kinds.get(kind, {}).items()):
            yield key, orjson.loads(body)

    def look(self) -> str:
        """`trouble`, after a look at what lies in the folder."""
        return self.trouble

    def close(self) -> None:
        """Let go of what is open."""


def reading_alone(root: object, why: object) -> str:
    """Says why a state folder that cannot be written to is served for reading, and what to do."""
    return (
        f"the state folder {root} cannot be written ({why}): it is open for reading alone; free space or make it "
        "writable, and start again"
    )
