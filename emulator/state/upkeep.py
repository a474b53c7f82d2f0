"""Upkeep of a state folder that nobody serves: verify, recover, gc, prune, migrate (`ftsim state`)."""

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emulator.core.clock import SECOND, Clock
from emulator.core.errors import Damaged, FailedPrecondition, NotFound
from emulator.state import migrations, references, salvage
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
    """Read every row and every file of every blob, as a server may go on meanwhile; raises StorageFailed for a damaged
    row, FailedPrecondition."""
    blobs = Blobs(root / BLOBS, read_only="this only looks")
    store = Database(_metadata(root), read_only="this only looks")
    found = Findings()
    try:
        salvage.read_all(store)
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
    """Make metadata.sqlite anew; how many entities of each kind there are now.

    Kept are the rows of a damaged one that are whole; others are made from what the blobs say. What neither knows is
    not there afterwards: without rows deployments, operations, jobs and sessions without a checkpoint, and what became
    of a row after its save. The damaged file stays beside the new one. Raises FailedPrecondition when nothing is wrong
    with the rows that are there, or when there is nothing to make any of.
    """
    with locked(root):
        file = root / METADATA
        bodies: Bodies = {}
        if there := file.exists() and file.stat().st_size > 0:
            if not salvage.damage(file):
                raise FailedPrecondition(f"{file} is there: move it away first if its rows are to be made anew")
            bodies = salvage.whole_rows(file)
        elif not blobs_there(root):
            raise FailedPrecondition(f"{root / BLOBS} has no blob that says what it is: there is nothing to recover")
        said: Bodies = {}
        for marker in sorted((root / BLOBS).rglob(RECORD)):
            _take(said, marker.parent, (root / BLOBS))
        bodies = {**bodies, **{key: fields for key, fields in said.items() if key not in bodies}}
        boots = [int(path.stem) for path in (root / "journals").glob("*.jsonl") if path.stem.isdigit()]
        boots.append(int(bodies.pop(BOOT, {}).get("count", 0)))
        bodies[BOOT] = {"count": max(boots) + _BOOTS_AHEAD, "format": FORMAT}
        _put_in_place(file, bodies, f"{METADATA}.damaged" if there else "")
        counts = Counter(kind for kind, _ in bodies if kind != BOOT[0])
        return dict(counts)


def _put_in_place(file: Path, bodies: Bodies, former: str) -> None:
    """Write a new database aside, and let it take the place of another, which is kept under its `former` name."""
    new = file.with_name(f".{file.name}.recovered")
    for left in (new, *map(new.with_name, (f"{new.name}-wal", f"{new.name}-shm"))):
        left.unlink(missing_ok=True)
    store = Database(new)
    try:
        store.replace(bodies)
        World(store=store).dump()  # which reads all of it
    finally:
        store.close()
    sync(new)
    for end in ("", "-wal"):
        source = file.with_name(f"{file.name}{end}")
        if former and source.exists():
            os.replace(source, file.with_name(f"{former}{end}"))
        source.unlink(missing_ok=True)
    file.with_name(f"{file.name}-shm").unlink(missing_ok=True)
    os.replace(new, file)
    sync(file.parent)


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
