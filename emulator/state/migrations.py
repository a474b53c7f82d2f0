"""Formats of what is stored, and one step from each to the next.

1, 2  never released: what replicas hold was a field of the deployment
3     as 4, without the digests of files and without a record in each blob
4     digests in rows and models, `.ftsim.json` in each blob
"""

from collections.abc import Callable, Mapping
from typing import Any

from emulator.core.errors import FailedPrecondition, InvalidArgument
from emulator.state.blobs import Blobs
from emulator.state.digests import digest, files
from emulator.state.records import record_of, write_record
from emulator.state.store import Key, Store

FORMAT = 4
"""Of what is stored; it counts up when entities change their fields."""
OLDEST = 3
BOOT: Key = ("meta", "boot")
Bodies = dict[Key, dict[str, Any]]
KINDS = (
    "job", "checkpoint", "model", "operation", "deployment", "snapshot_load", "session", "run", "sampling_route",
)  # fmt: skip


def check_format(meta: Mapping[str, Any]) -> None:
    """Raises FailedPrecondition for a state of another format than this emulator's."""
    found = meta.get("format", 1)
    if found == FORMAT:
        return
    hint = "use the version that wrote it, or an empty folder"
    if isinstance(found, int) and OLDEST <= found < FORMAT:
        hint = "`ftsim state migrate` brings it here, and keeps a copy of metadata.sqlite"
    raise FailedPrecondition(f"the state is of format {found}, this emulator reads {FORMAT}: {hint}")


def migrate(store: Store, blobs: Blobs) -> list[int]:
    """Bring a store to this format, a step at a time, in one transaction; returns the formats it went through.

    Raises InvalidArgument for a format from which no step leads.
    """
    meta = store.read(*BOOT) or {}
    at = meta.get("format", 1)
    if at not in (*STEPS, FORMAT):
        raise InvalidArgument(f"no step leads from format {at} to {FORMAT}: use the version that wrote it")
    bodies: Bodies = {(kind, name): body for kind in KINDS for name, body in store.all(kind)}
    passed = [at]
    while at != FORMAT:
        bodies = STEPS[at](bodies, blobs)
        at += 1
        passed.append(at)
    if len(passed) > 1:
        store.replace({**bodies, BOOT: {**meta, "format": FORMAT}})
    return passed


def _with_digests(bodies: Bodies, blobs: Blobs) -> Bodies:
    """From 3 to 4: files are taken to be what was saved, since nobody can know better."""
    for (kind, name), body in bodies.items():
        if kind not in ("checkpoint", "model") or not body.get("blob") or not blobs.exists(body["blob"]):
            continue
        folder = blobs.path(body["blob"])
        body["digests"] = {file: digest(path) for file, path in files(folder).items()}
        write_record(folder, record_of(kind, name, body, bodies))
    return bodies


STEPS: Mapping[int, Callable[[Bodies, Blobs], Bodies]] = {3: _with_digests}
