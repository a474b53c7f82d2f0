"""Lists the saved states of an emulator, and says how two of them differ."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.core.clock import SECOND, rfc3339
from emulator.core.errors import InvalidArgument, NotFound
from emulator.http.console.views.lists import size
from emulator.platform import archive, differences
from emulator.platform.platform import Platform

FOLDER = "snapshots"
MOST = 400
"""Differences that are shown."""
NOW = "now"
"""What stands for the emulator as it is, where a saved state may be named."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}\.zip")


@dataclass(frozen=True)
class Saved:
    """A file in the folder of saved states."""

    name: str
    size: str
    moment: str


@dataclass(frozen=True)
class StatePage:
    """Counts of what there is now, by kind, and what was saved."""

    counts: list[tuple[str, int]]
    saved: list[Saved]
    folder: str


@dataclass(frozen=True)
class Differing:
    """The differences of two states, path by path; `more` are not shown."""

    one: str
    other: str
    lines: list[tuple[str, str, str]]
    more: int


def states(platform: Platform) -> StatePage:
    world = platform.world
    counts = [
        ("jobs", len(world.jobs)),
        ("sessions", len(world.sessions)),
        ("rows", len(world.checkpoints)),
        ("models", len(world.models)),
        ("deployments", len(world.deployments)),
        ("loads", len(world.loads)),
    ]
    root = folder(platform)
    found = sorted(root.glob("*.zip"), key=lambda path: path.stat().st_mtime, reverse=True) if root.is_dir() else []
    listed = [
        Saved(path.name, size(path.stat().st_size), rfc3339(int(path.stat().st_mtime) * SECOND, 0))
        for path in found
        if _NAME.fullmatch(path.name)
    ]
    return StatePage(counts, listed, str(root))


def folder(platform: Platform) -> Path:
    return platform.blobs.home / FOLDER


def file_of(platform: Platform, name: str, *, there: bool = True) -> Path:
    """The file of a saved state; raises InvalidArgument for a name that is none, NotFound."""
    if not _NAME.fullmatch(name):
        raise InvalidArgument(f"{name[:120]!r} names no saved state: use letters, digits, '.', '_', '-' and .zip")
    path = folder(platform) / name
    if there and not path.is_file():
        raise NotFound(f"there is no saved state {name!r} (any more)")
    return path


def save(platform: Platform, name: str) -> Path:
    """Save what there is now; raises InvalidArgument for a name that is taken or none, StorageFailed."""
    file = file_of(platform, name if name.endswith(".zip") else f"{name}.zip", there=False)
    if file.exists():
        raise InvalidArgument(f"{file.name} is there already: choose another name")
    file.parent.mkdir(exist_ok=True)
    return archive.save(platform, file)


def compare(platform: Platform, one: str, other: str) -> Differing:
    """Compares two saved states, or one and what there is now (`now`); raises InvalidArgument, NotFound."""
    staged: Path | None = None
    try:
        if NOW in (one, other):
            staged = platform.blobs.stage()
            archive.save(platform, staged / "now.zip")
        opened = [
            archive.Archive.open(staged / "now.zip" if name == NOW and staged else file_of(platform, name))
            for name in (one, other)
        ]
        found = differences.differences(*opened)
    finally:
        if staged is not None:
            platform.blobs.discard(staged)
    lines = [(path, _text(mine), _text(theirs)) for path, mine, theirs in found[:MOST]]
    return Differing(one, other, lines, max(0, len(found) - MOST))


def _text(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
