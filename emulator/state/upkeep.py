"""Upkeep of a state folder that nobody serves: verify, recover, gc, prune, migrate (`ftsim state`)."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emulator.core.clock import SECOND, Clock
from emulator.core.errors import Damaged, FailedPrecondition, NotFound
from emulator.state import migrations, references
from emulator.state.blobs import LOST, RECORD, Blobs, sync
from emulator.state.database import Database
from emulator.state.folder import BLOBS, METADATA, blobs_there, locked
from emulator.state.migrations import BOOT, FORMAT, Bodies, public_state
from emulator.state.records import Record
from emulator.state.world import World

_DAY_S = 24 * 3600
_BOOTS_AHEAD = 1000
"""Ids of a recovered state begin so many starts later: how many there were is not known any more."""


@dataclass
class Findings:
    """The findings of `verify`; `damaged` are sentences, `unknown` the keys that no row points at."""

    rows: int = 0
    files: int = 0
    damaged: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    lost: int = 0


def verify(root: Path) -> Findings:
    """Read every file of every blob, as a server may go on meanwhile; raises StorageFailed, FailedPrecondition."""
    blobs = Blobs(root / BLOBS, read_only="this only looks")
    store = Database(_metadata(root), read_only="this only looks")
    found = Findings()
    try:
        migrations.check_format(store.read(*BOOT) or {})
        keys = set()
        for kind in ("checkpoint", "model"):
            for name, body in store.all(kind):
                keys.add(str(body["blob"]))
                found.rows += 1
                found.files += len(body["digests"])
                found.damaged += _damage(blobs, name, body)
        for name, body in store.all("snapshot_load"):
            if (key := str(body["blob"])) and key not in keys:
                keys.add(key)
                record = Record.read(blobs.path(key))
                found.damaged += _damage(blobs, name, {"blob": key, "digests": record.digests if record else {}})
        found.unknown = blobs.strangers(keys) if blobs.root.is_dir() else []
        found.lost = sum(1 for _ in _lost(root))
    finally:
        store.close()
    return found


def _damage(blobs: Blobs, name: str, body: dict[str, Any]) -> list[str]:
    try:
        blobs.checked(body["blob"], body["digests"], name, f"{name}: its files are gone")
    except (NotFound, Damaged) as error:
        return [error.message]
    return []


def recover(root: Path) -> dict[str, int]:
    """Make metadata.sqlite anew from what the blobs say; how many entities of each kind there are now.

    Raises FailedPrecondition when there are rows, or no blobs. What no blob knows is not there afterwards: deployments,
    operations, jobs and sessions without a checkpoint, and what became of a row after its save.
    """
    with locked(root):
        file = root / METADATA
        if file.exists() and file.stat().st_size:
            raise FailedPrecondition(f"{file} is there: move it away first if its rows are to be made anew")
        if not blobs_there(root):
            raise FailedPrecondition(f"{root / BLOBS} has no blob that says what it is: there is nothing to recover")
        bodies: Bodies = {}
        for marker in sorted((root / BLOBS).rglob(RECORD)):
            _take(bodies, marker.parent, (root / BLOBS))
        boots = [int(path.stem) for path in (root / "journals").glob("*.jsonl") if path.stem.isdigit()]
        count = max(boots, default=0) + _BOOTS_AHEAD
        for left in (file, file.with_name(f"{METADATA}-wal"), file.with_name(f"{METADATA}-shm")):
            left.unlink(missing_ok=True)
        store = Database(file)
        try:
            store.replace({**bodies, BOOT: {"count": count, "format": FORMAT}})
            World(store=store).dump()  # which reads all of it
        finally:
            store.close()
        counts: dict[str, int] = {}
        for kind, _ in bodies:
            counts[kind] = counts.get(kind, 0) + 1
        return counts


def _take(bodies: Bodies, folder: Path, blobs: Path) -> None:
    """Add what a blob says to what others said; the youngest of one name wins."""
    record = Record.read(folder)
    if record is None or record.entities[0][0] not in ("checkpoint", "model"):
        return
    for at, (kind, name, fields) in enumerate(record.entities):
        if at == 0:
            fields["blob"] = folder.relative_to(blobs).as_posix()
        if kind == "session":
            fields["state"] = public_state(fields["state"])
        known = bodies.get((kind, name))
        if known is None or _age(fields) >= _age(known):
            bodies[kind, name] = fields


def _age(fields: dict[str, Any]) -> int:
    return int(fields.get("updated", fields.get("created", 0)))


def gc(root: Path) -> tuple[int, int]:
    """Delete `lost+found` and what unfinished saves left; (files, bytes) freed. Raises FailedPrecondition."""
    with locked(root):
        freed = [path.stat().st_size for path in _lost(root)]
        for left in (root / BLOBS).glob(".trash-*"):
            freed += [path.stat().st_size for path in left.rglob("*") if path.is_file()]
            shutil.rmtree(left, ignore_errors=True)
        shutil.rmtree(root / LOST, ignore_errors=True)
        return len(freed), sum(freed)


@dataclass
class Pruned:
    """The names that `prune` deleted, or would delete."""

    owners: list[str]
    rows: int
    files: list[Path]


def prune(root: Path, days: float, *, dry: bool = False) -> Pruned:
    """Forget jobs and sessions deleted more than `days` days ago with their rows and blobs, and journals and snapshots
    as old; raises FailedPrecondition, StorageFailed."""
    with locked(root):
        store = Database(_metadata(root))
        try:
            world, blobs = World(store=store), Blobs(root / BLOBS)
            before = Clock().now() - int(days * _DAY_S * SECOND)
            owners: list[Any] = [
                owner
                for table in (world.jobs, world.sessions)
                for owner in table
                if owner.deleted is not None and owner.deleted <= before
            ]
            rows = [row for owner in owners for row in world.checkpoints.of(owner.name)]
            stale = [
                path
                for folder in ("journals", "snapshots")
                for path in sorted((root / folder).glob("*"))
                if path.is_file() and path.stat().st_mtime_ns // 1000 <= before
            ]
            pruned = Pruned([owner.name for owner in owners], len(rows), stale)
            if dry:
                return pruned
            with world.change():
                for row in rows:
                    world.checkpoints.remove(row.name)
                for owner in owners:
                    (world.jobs if owner.name in world.jobs else world.sessions).remove(owner.name)
            references.delete(world, blobs, [row.blob for row in rows])
            for path in stale:
                path.unlink()
            return pruned
        finally:
            store.close()


def migrate(root: Path) -> list[int]:
    """Bring a folder of an older format here, keeping a copy of its metadata; the formats it went through.

    Raises InvalidArgument for one from which no step leads, FailedPrecondition, StorageFailed.
    """
    with locked(root):
        store = Database(_metadata(root))
        try:
            found = (store.read(*BOOT) or {}).get("format", 1)
            if found != FORMAT:
                copy = root / f"{METADATA}.format-{found}"
                aside = copy.with_name(f".{copy.name}")
                aside.unlink(missing_ok=True)
                store.back_up(aside)
                os.replace(aside, copy)
                sync(root)
            return migrations.migrate(store, Blobs(root / BLOBS))
        finally:
            store.close()


def _metadata(root: Path) -> Path:
    file = root / METADATA
    if not file.is_file():
        hint = "`ftsim state recover` makes it from the blobs" if blobs_there(root) else "is it a state folder?"
        raise FailedPrecondition(f"there is no {file}: {hint}")
    return file


def _lost(root: Path) -> Iterator[Path]:
    return (path for path in (root / LOST).rglob("*") if path.is_file() and not path.is_symlink())
