"""Blobs that outlive their row: a replica has to find what it loaded when it is opened again after a restart."""

from collections.abc import Iterable, Mapping

from emulator.blobs import Blobs
from emulator.world import World


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
    return any(
        entry["blob"] == key for deployment in world.deployments for pod in deployment.pods for entry in pod.loads
    )
