"""`--map URL=FILE`: addresses that a program's requests find answered from files."""

import json
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

MAP = "FTSIM_MAP"
PROXIES = tuple(f"{name}_proxy" for name in ("http", "https", "all", "ftp"))
"""Removed from the program's environment: what goes to a proxy is neither mapped nor refused."""

DATASETS = {"HF_DATASETS_OFFLINE": "0", "HF_UPDATE_DOWNLOAD_COUNTS": "0"}
"""`datasets` takes HF_HUB_OFFLINE for no network at all, and would not even ask for a mapped address."""


class MapError(ValueError):
    """A pair cannot be meant; the message says which and how it is written."""


def variables(pairs: Sequence[str]) -> dict[str, str]:
    """The variable that the shims of a program read; nothing without a pair. Raises MapError."""
    if not pairs:
        return {}
    found = sorted(map(_read, pairs), key=lambda pair: -len(pair[0]))
    return {MAP: json.dumps(found), **DATASETS}


def without_proxies(environment: dict[str, str]) -> dict[str, str]:
    """An environment without proxies, where addresses are mapped; else the same."""
    if MAP not in environment:
        return environment
    return {name: value for name, value in environment.items() if name.lower() not in PROXIES}


def _read(pair: str) -> tuple[str, str]:
    url, _, name = pair.partition("=")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or not name:
        raise MapError(
            f"ftsim: --map {pair!r} is not URL=FILE: write --map https://example.com/data=FOLDER or "
            "--map https://example.com/rows.jsonl=FILE"
        )
    if parts.query or parts.fragment or "?" in url:
        raise MapError(f"ftsim: --map {pair!r}: leave out what stands behind ? and #: it is not looked at")
    file = Path(name).expanduser().resolve()
    if not file.exists():
        raise MapError(f"ftsim: --map {pair!r}: there is no file or folder {file}")
    return url, str(file)
