"""Finds where two saved states, or two JSON values, differ."""

from collections.abc import Iterator
from typing import Any

from emulator.core.clock import SECOND, parse_rfc3339
from emulator.platform.archive import Archive

ABSENT = "absent"


def differences(one: Archive, other: Archive) -> list[tuple[str, Any, Any]]:
    """Paths at which two states differ, with both values; whole entities and blobs that only one has come as such."""
    found: list[tuple[str, Any, Any]] = []
    for kind in one.entities:
        mine, theirs = one.entities[kind], other.entities[kind]
        for name in sorted({**mine, **theirs}):
            if name not in mine or name not in theirs:
                found.append((name, kind if name in mine else ABSENT, kind if name in theirs else ABSENT))
            else:
                found += different(mine[name], theirs[name], name)
    for key in sorted(set(one.files) & set(other.files)):
        found += different(_plain(one, key), _plain(other, key), f"blob {key}")
    return found


def different(one: Any, other: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """Paths at which two JSON values differ, with both values; stamps may differ by a second."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in {**one, **other}:
            yield from different(one.get(key, ABSENT), other.get(key, ABSENT), f"{path}.{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for at, (mine, theirs) in enumerate(zip(one, other, strict=True)):
            yield from different(mine, theirs, f"{path}[{at}]")
    elif one != other and not _same_moment(one, other):
        yield path, one, other


def _same_moment(one: Any, other: Any) -> bool:
    if not isinstance(one, str) or not isinstance(other, str):
        return False
    try:
        return abs(parse_rfc3339(one) - parse_rfc3339(other)) <= SECOND
    except ValueError:
        return False


def _plain(archive: Archive, key: str) -> dict[str, Any]:
    return {name: digest for name, (_, digest) in archive.files[key].items()}
