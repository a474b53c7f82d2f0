"""References to blobs: from rows and models, and from the loads that a replica has to find after a restart."""

from collections.abc import Collection, Iterable
from pathlib import Path

from emulator.state.blobs import Blobs
from emulator.state.entities import Deployment, Pod, SnapshotLoad
from emulator.state.records import Record
from emulator.state.world import World


def set_aside(world: World, blobs: Blobs, name: str) -> list[str]:
    """Move what no entity points at into `lost+found/<name>`; returns the keys moved. Raises StorageFailed."""
    if blobs.shared or blobs.read_only or not blobs.strangers(()) or not blobs.strangers(needed(world)):
        return []  # without anything below the root, nobody needs to know what is needed
    world.checkpoints.read_all()  # nothing is moved on the word of a row that was not looked at
    return blobs.set_aside(needed(world), name)


def needed(world: World) -> set[str]:
    """The keys of all blobs that an entity points at."""
    return {blob for table in (world.checkpoints, world.models, world.loads) for blob in table.blobs()}


def checked(world: World, blobs: Blobs, key: str, what: str, gone: str) -> Path:
    """The folder of a blob that holds what was saved, whoever has it; raises NotFound with `gone`, or Damaged."""
    owners = (entity for table in (world.checkpoints, world.models) for entity in table if entity.blob == key)
    found = next(owners, None) or Record.read(blobs.fetch(key))
    return blobs.checked(key, found.digests if found else {}, what, gone)


def delete(world: World, blobs: Blobs, keys: Iterable[str]) -> None:
    """Delete blobs whose rows are gone, but those a replica holds; `let_go` deletes these later."""
    needed = {load.blob for load in world.loads}
    for key in set(keys) - needed:
        blobs.delete(key)


def let_go(world: World, blobs: Blobs, keys: Collection[str]) -> None:
    """Delete what a replica no longer needs and no row has (any more)."""
    free = set(keys)
    if free:
        free -= set(world.checkpoints.blobs())
    if free:
        world.checkpoints.read_all()  # nothing is deleted on the word of a row that was not looked at
        delete(world, blobs, free - set(world.checkpoints.blobs()))


def loads_of(world: World, deployment: Deployment, pod: Pod) -> list[SnapshotLoad]:
    """The loads that a replica's weights are made of, in the order in which it was loaded."""
    return [load for load in world.loads.of(deployment.name) if load.blob and load.replica == pod.identity]


def release(world: World, loads: Iterable[SnapshotLoad]) -> list[str]:
    """Note that a replica is made of these no more, inside `World.change()`; their blobs are for `let_go` after it."""
    keys = []
    for load in loads:
        keys.append(load.blob)
        load.blob = ""
        world.loads.put(load)
    return keys
