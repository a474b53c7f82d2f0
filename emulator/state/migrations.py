"""Formats of what is stored, and one step from each to the next.

1, 2  never released: what replicas hold was a field of the deployment
3     as 4, without the digests of files and without a record in each blob
4     digests in rows and models, `.ftsim.json` in each blob
5     what a client sets of a deployment is a field of it under its own name, no longer an echo or an abbreviation
6     the states of a session are those of the public schema; there may be resources of managed jobs and data sets
7     a checksum of every row, and of which rows there are
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from emulator.core.errors import FailedPrecondition, InvalidArgument
from emulator.state.blobs import Blobs, digests_of
from emulator.state.records import record_of, write_record
from emulator.state.store import Key, Store

FORMAT = 7
"""Of what is stored; it counts up when entities change their fields."""
OLDEST = 3
BOOT: Key = ("meta", "boot")
Bodies = dict[Key, dict[str, Any]]
KINDS = (
    "job",
    "checkpoint",
    "model",
    "operation",
    "deployment",
    "snapshot_load",
    "session",
    "run",
    "sampling_route",
    "curve",
    "managed",
    "deployed_model",
    "usage",
)


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
        body["digests"] = digests_of(folder)
        write_record(folder, record_of(kind, name, body, bodies))
    return bodies


_RENAMED = {
    "bucket_type": "hot_load_bucket_type",
    "bucket_url": "hot_load_bucket_url",
    "trainer_job": "hot_load_trainer_job",
    "transition": "hot_load_transition_type",
    "shape": "deployment_shape",
    "min_replicas": "min_replica_count",
    "max_replicas": "max_replica_count",
}
_ECHOED = {
    "description": "description",
    "displayName": "display_name",
    "annotations": "annotations",
    "forTraining": "for_training",
    "acceleratorType": "accelerator_type",
}


def _with_settings(bodies: Bodies, _blobs: Blobs) -> Bodies:
    """From 4 to 5: a deployment's settings come out of the echoed request, where either spelling may stand."""
    for (kind, _), body in bodies.items():
        if kind != "deployment":
            continue
        for old, new in _RENAMED.items():
            body[new] = body.pop(old)
        request = body["request"]
        for sent, name in _ECHOED.items():
            said = [request.pop(key) for key in {sent, name} if key in request]
            if said:
                body[name] = said[0]
        body["request"] = {key: value for key, value in request.items() if _snake(key) not in body}
        if not body["enable_hot_load"]:
            body["hot_load_bucket_type"] = ""
    return bodies


def _snake(name: str) -> str:
    return re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", name)


def public_state(state: str) -> str:
    """A session's state in the words of the public schema: before format 6 it had others."""
    return _FORMER_STATES.get(state, state)


_FORMER_STATES = {
    "TRAINING_SESSION_STATE_CREATING": "TRAINING_SESSION_STATE_READY",
    "TRAINING_SESSION_STATE_ACTIVE": "TRAINING_SESSION_STATE_READY",
    "TRAINING_SESSION_STATE_DELETED": "TRAINING_SESSION_STATE_DELETING",
}


def _with_public_states(bodies: Bodies, _blobs: Blobs) -> Bodies:
    """From 5 to 6."""
    for (kind, _), body in bodies.items():
        if kind == "session":
            body["state"] = public_state(body["state"])
    return bodies


def _with_sums(bodies: Bodies, _blobs: Blobs) -> Bodies:
    """From 6 to 7: rows are taken to be what was stored, since nobody can know better; the store adds the sums."""
    return bodies


STEPS: Mapping[int, Callable[[Bodies, Blobs], Bodies]] = {
    3: _with_digests,
    4: _with_settings,
    5: _with_public_states,
    6: _with_sums,
}
