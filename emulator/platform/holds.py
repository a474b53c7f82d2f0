"""Which blobs are needed: those of rows and models, and what a replica loaded and has to find after a restart."""

from collections.abc import Iterable, Iterator, Mapping

from emulator.blobs import Blobs
from emulator.world import World


def needed(world: World) -> set[str]:
    """The keys of all blobs that an entity points at."""
    own = {entity.blob for table in (world.checkpoints, world.models) for entity in table}
    return {key for key in own | set(_loaded(world)) if key}


def delete(world: World, blobs: Blobs, key: str) -> None:
    """Delete a blob whose row is gone, unless a replica holds it; then `let_go` deletes it."""
    if not _held(world, key):
        blobs.delete(key)


def let_go(world: World, blobs: Blobs, loads: Iterable[Mapping[str, str]]) -> None:
    """Delete what a replica no longer needs and no row has (any more)."""
    for key in {entry["blob"] for entry in loads}:
        if not _held(world, key) and all(row.blob != key for row in world.checkpoints):
            blobs.delete(key)


def _held(world: World, key: str) -> bool:
    return any(loaded == key for loaded in _loaded(world))


def _loaded(world: World) -> Iterator[str]:
    return (entry["blob"] for deployment in world.deployments for pod in deployment.pods for entry in pod.loads)
