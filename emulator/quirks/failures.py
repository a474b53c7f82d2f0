"""Reads the catalogue of failures, docs/failures.md, which ships inside the package: what each entry says."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_HERE = Path(__file__).parent
_ENTRY = re.compile(r"\*\*([A-H]\d+) (?:★(?:\([^)]*\))? ?)?(.+?)\*\*(?: \([^)]*\))? — (.*)")
_MARK = re.compile(r" ?\*\*(?:RAN|SRC|REP|INF)[A-Z, /]*\*\*(?: \([^)]*\))?")
_PART = re.compile(r"\*(Sees|Server|Switch|Right client|Right server)(?:/SDK)?\*(?: \([^)]*\))?: ")


@dataclass(frozen=True)
class Entry:
    """One failure of docs/failures.md. Parts that the page leaves out are empty."""

    id: str
    title: str
    sees: str
    cause: str
    cure: str
    switch: str


@cache
def entries() -> dict[str, Entry]:
    """Every entry of docs/failures.md by its id: the copy in the installed package, or the page of a checkout."""
    page = _HERE / "failures.md"
    if not page.exists():
        page = _HERE.parents[1] / "docs" / "failures.md"
    found = {}
    for line in page.read_text("utf-8").splitlines():
        if match := _ENTRY.match(line):
            identifier, title, body = match.groups()
            found[identifier] = _entry(identifier, title, body)
    return found


def _entry(identifier: str, title: str, body: str) -> Entry:
    text = _MARK.sub("", body.partition(" *Source*:")[0].partition(" *Nearest*:")[0])
    before, *rest = _PART.split(text)
    parts = dict(zip(rest[::2], (part.strip() for part in rest[1::2]), strict=True))
    cure = parts.get("Right client") or parts.get("Right server", "")
    sees = parts.get("Sees", before.strip())
    return Entry(identifier, title, sees, parts.get("Server", ""), cure, parts.get("Switch", ""))
