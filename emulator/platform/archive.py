"""The whole platform in one file: a zip archive of the entities as JSON and of the blobs behind them.

    manifest.json        format, seed, boot, state of the id source, account, time, versions, size and sha256 of files
    world.json           the entities by kind
    blobs/<key>/<file>   what the rows and models point at
    journal.jsonl        what was asked (see `emulator.journal.file`), in a bundle

What lives on trainers only (models, sessions, unanswered calls) is not in it: whoever restores finds what a restart
would leave. An archive may come from anybody: it is checked whole before anything changes; nothing in it is executed.
"""

import hashlib
import stat
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import IO, Any

import orjson
from pydantic import TypeAdapter, ValidationError

from emulator.core import limits
from emulator.core.catalogue import NEWEST, platform_of
from emulator.core.clock import FURTHEST
from emulator.core.errors import InvalidArgument, StorageFailed
from emulator.core.ids import Ids
from emulator.journal import file as journal_file
from emulator.platform.platform import Platform
from emulator.state import curves, entities, references
from emulator.state.blobs import RECORD, Blobs
from emulator.state.folder import private
from emulator.state.managed import Managed
from emulator.state.migrations import FORMAT, OLDEST, public_state
from emulator.state.records import record_of

_TEXT_LIMIT = 256 * 1024**2
_CHUNK = 1 << 20
_RESTORED = "restored-"
_JOURNAL = "journal.jsonl"
"""Members that every archive may have beside state; `texts` of its manifest names it and what else a bundle has."""
_DIGESTED = ("checkpoint", "model")
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
}


@cache
def _adapter(kind: str) -> TypeAdapter[Any]:
    """The check of an entity; made when an archive is read, since it takes long."""
    return TypeAdapter(_KINDS[kind])


def save(platform: Platform, file: Path, extra: Mapping[str, Iterable[bytes]] | None = None) -> Path:
    """Write an archive; `extra` are further members. Raises StorageFailed; then there is no archive."""
    world, aside = platform.world, file.with_name(f".{file.name}.unfinished")
    pinned: dict[str, Path] = {}
    try:
        with world.lock:  # for a moment only: everybody else waits
            entities, ids, moment = world.dump(), world.ids.state(), world.clock.now()
            for key in sorted(references.needed(world)):
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
        }
        texts["world.json"] = [orjson.dumps(entities)]
        if not _write(aside, zipfile.ZIP_DEFLATED, about, pinned, texts):
            _write(aside, zipfile.ZIP_STORED, about, pinned, texts)
        return aside.replace(file)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise StorageFailed(f"the state cannot be saved to {file}: {error.strerror or error}") from error
    finally:
        for folder in pinned.values():
            platform.blobs.discard(folder)


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
    return unpacked <= _believed(aside)


def _believed(file: Path) -> int:
    """Return the number of bytes that an archive of this size may unpack to."""
    return limits.MIB + limits.ARCHIVE_RATIO.value * file.stat().st_size


@dataclass(frozen=True)
class Archive:
    """An archive, opened and checked. `entities` are bodies by kind and name, `files` (size, sha256) by path."""

    file: Path
    manifest: dict[str, Any]
    entities: dict[str, dict[str, dict[str, Any]]]
    files: dict[str, dict[str, tuple[int, str]]]

    @classmethod
    def open(cls, file: Path) -> "Archive":
        """Read and check everything but the blobs' bytes; raises InvalidArgument."""
        try:
            with zipfile.ZipFile(file) as archive:
                _check_members(archive, _believed(file))
                manifest = orjson.loads(_text(archive, "manifest.json"))
                if manifest["kind"] != "state" or not OLDEST <= manifest["format"] <= FORMAT:
                    raise InvalidArgument(f"{file.name} is no state of format {OLDEST} to {FORMAT}")
                Ids.at(manifest["ids"])
                platform_of(str(manifest.get("platform", NEWEST)))
                if not 0 <= int(manifest["time"]) < FURTHEST:
                    raise ValueError(f"its time is {manifest['time']}")
                listed = {
                    str(key): {_plain(name): (int(size), str(digest)) for name, (size, digest) in files.items()}
                    for key, files in manifest["files"].items()
                }
                _check_declared(archive, listed, manifest.get("texts", [_JOURNAL]))
                entities = _entities(orjson.loads(_text(archive, "world.json")), listed)
        except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise InvalidArgument(f"{file.name} is no archive that can be read: {error}") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidArgument(f"{file.name} is damaged: {error}") from None
        return cls(file, manifest, entities, listed)

    def text(self, name: str) -> bytes | None:
        """A small member such as journal.jsonl, None when it is not there."""
        with zipfile.ZipFile(self.file) as archive:
            return _text(archive, name) if name in archive.namelist() else None

    def extract(self, key: str, folder: Path) -> None:
        """Write the files of a blob into `folder`, checking size and digest; raises InvalidArgument."""
        with zipfile.ZipFile(self.file) as archive:
            for name, (size, digest) in self.files[key].items():
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    with archive.open(f"blobs/{key}/{name}") as source, target.open("xb") as out:
                        _copy(source, out, size, digest)
                except (KeyError, ValueError, zipfile.BadZipFile, EOFError) as error:
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
        for key in found.files:
            blobs.path(key)
            staged[key] = blobs.stage()
            found.extract(key, staged[key])
        with world.lock:
            before = references.needed(world)
            # Beside what is there: until the world is stored, nothing that it needs is touched.
            new = {key: folder for key, folder in staged.items() if not found.holds(key, blobs.path(key))}
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
    """Make a blob of extracted files, with its record and with digests in the bodies that point at it."""
    (folder / RECORD).unlink(missing_ok=True)
    digests, record = blobs.digest(folder), b""
    for (kind, name), body in bodies.items():
        if body.get("blob") == key:
            about = body | {"digests": digests}
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
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
                member.write(chunk)
        listed[name] = (size, digest.hexdigest())
    return listed


def _check_members(archive: zipfile.ZipFile, believed: int) -> None:
    """Read the directory of the archive; no member is read beyond the size that stands there."""
    members = archive.infolist()
    names = [member.filename for member in members]
    total, most, many = sum(member.file_size for member in members), limits.ARCHIVE.value, limits.ARCHIVE_FILES.value
    if len(members) > many or total > most:
        raise ValueError(f"more than {many} files or {most >> 30} GiB")
    if total > believed:
        raise ValueError(f"it unpacks to {total} bytes, over {limits.ARCHIVE_RATIO.value} times its size")
    if len(set(names)) != len(names):
        raise ValueError("a name stands in it twice")
    for member in members:
        _plain(member.filename)
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise ValueError(f"{member.filename[:120]!r} is no plain file")


def _check_declared(archive: zipfile.ZipFile, listed: Mapping[str, Mapping[str, tuple[int, str]]], texts: Any) -> None:
    """Every member stands in the manifest, the blobs' with their sizes; raises ValueError."""
    sizes = {f"blobs/{key}/{name}": size for key, files in listed.items() for name, (size, _) in files.items()}
    known = {"manifest.json", "world.json", *map(str, texts)}
    for member in archive.infolist():
        name = member.filename
        if name not in known and name not in sizes:
            raise ValueError(f"{name[:120]!r} is not in its manifest")
        if name in sizes and member.file_size != sizes[name]:
            raise ValueError(f"{name[:120]!r} has {member.file_size} bytes, not the {sizes[name]} of its manifest")


def _plain(name: str) -> str:
    """A relative path that stays where it is; raises ValueError."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or "\\" in name or "\0" in name or str(PurePosixPath(name)) != name:
        raise ValueError(f"{name[:120]!r} is no plain path")
    if ".." in parts or ":" in parts[0]:
        raise ValueError(f"{name[:120]!r} leaves the archive")
    return name


def _text(archive: zipfile.ZipFile, name: str) -> bytes:
    with archive.open(name) as member:
        raw = member.read(_TEXT_LIMIT + 1)
    if len(raw) > _TEXT_LIMIT:
        raise ValueError(f"{name} is over {_TEXT_LIMIT >> 20} MiB")
    return raw


def _copy(source: IO[bytes], out: IO[bytes], size: int, digest: str) -> None:
    found, left = hashlib.sha256(), size
    while chunk := source.read(min(_CHUNK, left + 1)):
        left -= len(chunk)
        if left < 0:
            raise ValueError(f"it is longer than {size} bytes")
        found.update(chunk)
        out.write(chunk)
    if left or found.hexdigest() != digest:
        raise ValueError("it is not what the manifest says")


def _entities(world: Any, files: Mapping[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """Bodies by kind and name; raises ValueError for one of a wrong shape or without its blob."""
    found: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in _KINDS}
    for kind, bodies in world.items():
        for body in bodies:
            if kind == "session":
                body["state"] = public_state(body["state"])
            entity = _decode(kind, body)
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
