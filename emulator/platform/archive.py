"""The whole platform in one file: a zip archive of the entities as JSON and of the blobs behind them.

    manifest.json        format, seed, boot, state of the id source, account, time, versions, size and sha256 of files,
                         and the keys of blobs that were left out
    world.json           the entities by kind
    blobs/<key>/<file>   what the rows and models point at
    journal.jsonl        what was asked (see `emulator.journal.file`), in a bundle

What lives on trainers only (models, sessions, unanswered calls) is not in it: whoever restores finds what a restart
would leave. An archive may come from anybody: it is checked whole before anything changes; nothing in it is executed.
"""

import hashlib
import zipfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import TypeAdapter, ValidationError

from emulator.core.catalogue import NEWEST, platform_of
from emulator.core.clock import FURTHEST
from emulator.core.errors import InvalidArgument, StorageFailed
from emulator.core.ids import Ids
from emulator.journal import file as journal_file
from emulator.platform import members
from emulator.platform.platform import Platform
from emulator.state import curves, entities, references
from emulator.state.blobs import RECORD, Blobs, sync
from emulator.state.deployed import DeployedModel
from emulator.state.folder import private
from emulator.state.managed import Managed
from emulator.state.migrations import FORMAT, OLDEST, public_state
from emulator.state.records import record_of
from emulator.state.usage import Usage
from emulator.state.world import World

_RESTORED = "restored-"
_JOURNAL = "journal.jsonl"
"""Members that every archive may have beside state; `texts` of its manifest names it and what else a bundle has."""
_DIGESTED = ("checkpoint", "model")
BlobChoice = Literal["none", "last", "all"]
"""Which blobs an archive holds; `last` are those of the newest row of each job and session."""
_KINDS: Mapping[str, type] = {
    "job": entities.Job,
    "checkpoint": entities.Checkpoint,
    "model": entities.Model,
    "operation": entities.Operation,
    "deployment": entities.Deployment,
    "snapshot_load": entities.SnapshotLoad,
    "session": entities.Session,
    "run": entities.Run,
    "sampling_route": entities.SamplingRoute,
    "curve": curves.Curve,
    "managed": Managed,
    "deployed_model": DeployedModel,
    "usage": Usage,
}


@cache
def _adapter(kind: str) -> TypeAdapter[Any]:
    """The check of an entity; made when an archive is read, since it takes long."""
    return TypeAdapter(_KINDS[kind])


def save(
    platform: Platform, file: Path, extra: Mapping[str, Iterable[bytes]] | None = None, blobs: BlobChoice = "all"
) -> Path:
    """Write an archive; `extra` are further members. Raises StorageFailed; then there is no archive."""
    world, aside = platform.world, file.with_name(f".{file.name}.unfinished")
    pinned: dict[str, Path] = {}
    platform.usages.flush()
    try:
        with world.lock:  # for a moment only: everybody else waits
            entities, ids, moment = world.dump(), world.ids.state(), world.clock.now()
            needed = references.needed(world)
            for key in sorted(_chosen(world, needed, blobs)):
                pinned[key] = platform.blobs.pin(key)
            texts = {name: list(chunks) for name, chunks in (extra or {}).items()}
        about = {
            "kind": "state",
            "format": FORMAT,
            "account": platform.account,
            "time": moment,
            "platform": world.platform,
            "ids": ids,
            "versions": journal_file.versions(),
            "texts": sorted(texts),
            "left_out": sorted(needed - pinned.keys()),
        }
        texts["world.json"] = [orjson.dumps(entities)]
        if not _write(aside, zipfile.ZIP_DEFLATED, about, pinned, texts):
            _write(aside, zipfile.ZIP_STORED, about, pinned, texts)
        sync(aside)
        aside.replace(file)
        sync(file.parent)
        return file
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise StorageFailed(f"the state cannot be saved to {file}: {error.strerror or error}") from error
    finally:
        for folder in pinned.values():
            platform.blobs.discard(folder)


def _chosen(world: World, needed: set[str], blobs: BlobChoice) -> set[str]:
    """The keys of the blobs that an archive is to hold."""
    newest = {row.owner: row.blob for row in sorted(world.checkpoints, key=lambda row: row.created) if row.blob}
    return {"none": set[str](), "last": set(newest.values()), "all": needed}[blobs]


def _write(
    aside: Path, how: int, about: Mapping[str, Any], pinned: Mapping[str, Path], texts: Mapping[str, list[bytes]]
) -> bool:
    """Write all members; False if they were packed more tightly than `open` believes. Raises OSError."""
    with private(aside) as file, zipfile.ZipFile(file, "w", how, compresslevel=1) as archive:
        listed = {key: _add(archive, key, folder) for key, folder in pinned.items()}
        for name, chunks in texts.items():
            with archive.open(name, "w", force_zip64=True) as member:
                for chunk in chunks:
                    member.write(chunk)
        archive.writestr("manifest.json", orjson.dumps({**about, "files": listed}))
        unpacked = sum(member.file_size for member in archive.infolist())
    return unpacked <= members.believed(aside)


@dataclass(frozen=True)
class Archive:
    """An archive, opened and checked. `entities` are bodies by kind and name, `files` (size, sha256) by path."""

    file: Path
    manifest: dict[str, Any]
    entities: dict[str, dict[str, dict[str, Any]]]
    files: dict[str, dict[str, tuple[int, str]]]
    left_out: frozenset[str] = frozenset()
    """Keys of blobs that an entity points at and that are not in it: restored, such a row has no files."""

    @classmethod
    def open(cls, file: Path) -> "Archive":
        """Read and check everything but the blobs' bytes; raises InvalidArgument."""
        try:
            with zipfile.ZipFile(file) as archive:
                members.check_members(archive, members.believed(file))
                manifest = orjson.loads(members.text(archive, "manifest.json"))
                if manifest["kind"] != "state" or not OLDEST <= manifest["format"] <= FORMAT:
                    raise InvalidArgument(f"{file.name} is no state of format {OLDEST} to {FORMAT}")
                Ids.at(manifest["ids"])
                platform_of(str(manifest.get("platform", NEWEST)))
                if not 0 <= int(manifest["time"]) < FURTHEST:
                    raise ValueError(f"its time is {manifest['time']}")
                listed = {
                    str(key): {members.plain(name): (int(size), str(digest)) for name, (size, digest) in files.items()}
                    for key, files in manifest["files"].items()
                }
                members.check_declared(archive, listed, manifest.get("texts", [_JOURNAL]))
                left_out = frozenset(map(str, manifest.get("left_out", ())))
                entities = _entities(orjson.loads(members.text(archive, "world.json")), listed.keys() | left_out)
        except (OSError, *members.UNREADABLE) as error:
            raise InvalidArgument(f"{file.name} is no archive that can be read: {error}") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidArgument(f"{file.name} is damaged: {error}") from None
        return cls(file, manifest, entities, listed, left_out)

    def text(self, name: str) -> bytes | None:
        """A small member such as journal.jsonl, None when it is not there; raises InvalidArgument."""
        try:
            with zipfile.ZipFile(self.file) as archive:
                return members.text(archive, name) if name in archive.namelist() else None
        except (ValueError, *members.UNREADABLE) as error:
            raise InvalidArgument(f"{self.file.name}, {name}: {error}") from None

    def extract(self, key: str, folder: Path) -> None:
        """Write the files of a blob into `folder`, checking size and digest; raises InvalidArgument."""
        with zipfile.ZipFile(self.file) as archive:
            for name, (size, digest) in self.files[key].items():
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    with archive.open(f"blobs/{key}/{name}") as source, target.open("xb") as out:
                        members.copy(source, out, size, digest)
                except (KeyError, ValueError, *members.UNREADABLE) as error:
                    raise InvalidArgument(f"blob {key}, file {name}: {error}") from None

    def holds(self, key: str, folder: Path) -> bool:
        """Say whether a folder has the very files of a blob."""
        there = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        return there.keys() == self.files[key].keys() and all(
            not path.is_symlink() and (path.stat().st_size, _digest(path)) == self.files[key][name]
            for name, path in there.items()
        )


def restore(platform: Platform, file: Path) -> None:
    """Replace everything by an archive's content; raises InvalidArgument or StorageFailed, and nothing changed."""
    found, world, blobs = Archive.open(file), platform.world, platform.blobs
    staged: dict[str, Path] = {}
    committed: list[str] = []
    try:
        for key in found.left_out:
            blobs.path(key)
        for key in found.files:
            blobs.path(key)
            staged[key] = blobs.stage()
            found.extract(key, staged[key])
        with world.lock:
            before = references.needed(world)
            # Beside what is there: until the world is stored, nothing that it needs is touched.
            new = {key: folder for key, folder in staged.items() if not found.holds(key, blobs.fetch(key))}
            places = {key: f"{_RESTORED}{world.clock.now()}/{_original(key)}" for key in new if blobs.exists(key)}
            bodies = {
                (kind, name): _moved(body, places)
                for kind, named in found.entities.items()
                for name, body in named.items()
            }
            for key, folder in new.items():
                committed.append(places.get(key, key))
                _commit(blobs, folder, committed[-1], bodies)
            entities = {
                kind: [_decode(kind, bodies[kind, name]) for name in named] for kind, named in found.entities.items()
            }
            world.load(entities, found.manifest["ids"])
            platform.move_to(found.manifest.get("platform", NEWEST))
            committed.clear()
            platform.stop("another state was restored")
            world.clock.catch_up(int(found.manifest["time"]))
            for key in before - references.needed(world):
                blobs.delete(key)
    except ValueError as error:
        raise InvalidArgument(str(error)) from None
    except OSError as error:
        raise StorageFailed(f"the state cannot be restored: {error.strerror or error}") from error
    finally:
        for key in committed:
            blobs.delete(key)
        for folder in staged.values():
            blobs.discard(folder)


def _commit(blobs: Blobs, folder: Path, key: str, bodies: dict[tuple[str, str], dict[str, Any]]) -> None:
    """Make a blob of extracted files, its record, and digests in bodies without: what was damaged stays damaged."""
    (folder / RECORD).unlink(missing_ok=True)
    digests, record = blobs.digest(folder), b""
    for (kind, name), body in bodies.items():
        if body.get("blob") == key:
            about = body | {"digests": digests | body.get("digests", {})}
            if kind in _DIGESTED:
                bodies[kind, name] = about
            if not record or kind in _DIGESTED:
                record = record_of(kind, name, about, bodies)
    blobs.commit(folder, key, digests, record)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _original(key: str) -> str:
    return key.split("/", 1)[1] if key.startswith(_RESTORED) else key


def _moved(body: dict[str, Any], places: Mapping[str, str]) -> dict[str, Any]:
    """A body that points at where its blobs are now."""
    return body | ({"blob": places.get(body["blob"], body["blob"])} if body.get("blob") else {})


def _add(archive: zipfile.ZipFile, key: str, folder: Path) -> dict[str, tuple[int, str]]:
    """Put a blob's files into the archive; links are left out."""
    listed = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.is_symlink():
            continue
        name, digest, size = path.relative_to(folder).as_posix(), hashlib.sha256(), 0
        with path.open("rb") as source, archive.open(f"blobs/{key}/{name}", "w", force_zip64=True) as member:
            while chunk := source.read(members.CHUNK):
                digest.update(chunk)
                size += len(chunk)
                member.write(chunk)
        listed[name] = (size, digest.hexdigest())
    return listed


def _entities(world: Any, files: Collection[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """Bodies by kind and name; raises ValueError for one of a wrong shape or without its blob."""
    found: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in _KINDS}
    for kind, bodies in world.items():
        for body in bodies:
            if kind == "session":
                body["state"] = public_state(body["state"])
            entity = _decode(kind, body)
            for name in body.get("digests", {}):
                members.plain(name)
            if body.get("blob") and body["blob"] not in files:
                raise ValueError(f"{entity.name} has no blob in it")
            if entity.name in found[kind]:
                raise ValueError(f"{entity.name} stands in it twice")
            found[kind][entity.name] = body
    return found


def _decode(kind: str, body: Any) -> Any:
    try:
        return _adapter(kind).validate_python(body)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"a {kind} has a wrong {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
