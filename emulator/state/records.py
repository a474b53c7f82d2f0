"""Records that lie in blobs, as `.ftsim.json`: its row, and the job or session that lists it, as they were then.

Only `ftsim state recover` reads it, and hot-load for a snapshot whose row is gone.
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from emulator.state.blobs import RECORD

_FORMAT = 1
Bodies = Mapping[tuple[str, str], Mapping[str, Any]]


@dataclass(frozen=True)
class Record:
    """`entities` are (kind, name, fields): the row or model itself first."""

    entities: list[tuple[str, str, dict[str, Any]]]

    @property
    def digests(self) -> dict[str, str]:
        """Of the blob's files, by their names."""
        return dict(self.entities[0][2].get("digests", {}))

    def encoded(self) -> bytes:
        """The bytes of the file."""
        return orjson.dumps({"format": _FORMAT, "entities": self.entities})

    @classmethod
    def read(cls, folder: Path) -> "Record | None":
        """The record of a blob; None when there is none that can be read."""
        try:
            body = orjson.loads((folder / RECORD).read_bytes())
            if body["format"] != _FORMAT:
                return None
            return cls([(str(kind), str(name), dict(fields)) for kind, name, fields in body["entities"]])
        except (OSError, ValueError, TypeError, KeyError):
            return None


def record_for(kind: str, entity: Any, *owners: tuple[str, Any]) -> bytes:
    """The record of a row or model, and of what lists it: (kind, entity) each."""
    found = [(kind, entity.name, asdict(entity)), *((other, owner.name, asdict(owner)) for other, owner in owners)]
    return Record(found).encoded()


def record_of(kind: str, name: str, body: Mapping[str, Any], bodies: Bodies) -> bytes:
    """As `record_for`, of plain fields; `bodies` are those of everything there is, by kind and name."""
    owner = str(body.get("owner", ""))
    found = [(kind, name, dict(body))]
    for (other, other_name), fields in bodies.items():
        mine = other in ("job", "session") and other_name == owner
        if mine or (other == "run" and fields.get("session") == owner):
            found.append((other, other_name, dict(fields)))
    return Record(found).encoded()


def write_record(folder: Path, content: bytes) -> None:
    """Put a record into a blob that is in its place already, at once or not at all."""
    aside = folder / f"{RECORD}.new"
    with aside.open("wb") as file:
        file.write(content)
        os.fsync(file.fileno())
    os.replace(aside, folder / RECORD)
