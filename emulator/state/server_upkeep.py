"""Upkeep of a state on servers, also while emulators use it: verify, gc (`ftsim state ... --database --blobs`)."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from emulator.core.clock import SECOND, Clock
from emulator.core.errors import Damaged, NotFound
from emulator.state import salvage
from emulator.state.blobs import Blobs
from emulator.state.leases import Holder
from emulator.state.places import place_of
from emulator.state.records import Record
from emulator.state.server_database import ServerDatabase
from emulator.state.store import Store
from emulator.state.upkeep import Findings

GRACE_H = 24.0
"""Hours for which things without a row may belong to a save that goes on."""
_POINTING = ("checkpoint", "model", "snapshot_load")


@contextmanager
def _opened(database: str, blobs: str) -> Iterator[tuple[Store, Blobs]]:
    with tempfile.TemporaryDirectory(prefix="ftsim-") as folder:
        store = ServerDatabase(database, Holder("upkeep", ""))
        try:
            place = place_of(blobs)
            place.belongs_to(store.identity)
            yield store, place.blobs(Path(folder), "this only looks")
        finally:
            store.close()


def verify(database: str, blobs: str) -> Findings:
    """Read every row, and every file of every blob; raises StorageFailed for a damaged row, FailedPrecondition."""
    found = Findings()
    with _opened(database, blobs) as (store, kept):
        unknown = set(kept.strangers(()))  # before the rows: what is saved meanwhile has one by then
        salvage.read_all(store)
        digests: dict[str, tuple[str, dict[str, str]]] = {}
        for kind in _POINTING:
            for name, body in store.all(kind):
                if key := str(body["blob"]):
                    digests.setdefault(key, (name, body.get("digests", {})))
                found.rows += kind != "snapshot_load"
        for key, (name, expected) in digests.items():
            record = None if expected else Record.read(kept.fetch(key))
            expected = record.digests if record else expected
            found.files += len(expected)
            try:
                kept.checked(key, expected, name, f"{name}: its files are gone")
            except (NotFound, Damaged) as error:
                found.damaged.append(error.message)
            kept.let_go(key)
        if unknown:
            found.unknown = kept.strangers(digests)
        found.unknown += kept.unfinished(_hours_ago(GRACE_H))
    return found


def gc(database: str, blobs: str, hours: float = GRACE_H) -> tuple[list[str], int]:
    """Delete what no row points at and nobody has written to for so many hours; returns the keys, and the bytes.

    Parts of uploads that were begun that long ago go too; their bytes are not counted.
    """
    with _opened(database, blobs) as (store, kept):
        kept.read_only = ""
        before = _hours_ago(hours)
        there = {key for kind in _POINTING for key in store.blobs(kind)}
        gone, size = [], 0
        for key in kept.strangers(there):
            parts = list(kept.parts(key))
            if all(changed <= before for _, changed in parts):
                gone.append(key)
                size += sum(taken for taken, _ in parts)
        there = {key for kind in _POINTING for key in store.blobs(kind)}  # what was without a row may have got one
        gone = [key for key in gone if key not in there and not any(other.startswith(f"{key}/") for other in there)]
        for key in gone:
            kept.delete(key)
        unfinished = kept.unfinished(before)
        for end in unfinished.values():
            end()
        return [*gone, *unfinished], size


def _hours_ago(hours: float) -> int:
    return Clock().now() // SECOND - int(hours * 3600)
