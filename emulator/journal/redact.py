"""What must never be written down: API keys, tokens, signatures of links."""

import re
from collections.abc import Iterable

HIDDEN = b"[hidden]"
_SHAPES = (
    ((b"fw", b"tml"), re.compile(rb"(?<![A-Za-z0-9])(?:fw|tml)[_-][A-Za-z0-9_-]{16,}"), HIDDEN),
    ((b"earer", b"EARER"), re.compile(rb"([Bb]earer|BEARER)(\s+)[^\s\"',;]+"), rb"\1\2" + HIDDEN),
    ((b"signature=",), re.compile(rb"signature=[^&\"\s]+"), b"signature=" + HIDDEN),
    ((b'"jwt"',), re.compile(rb'("jwt"\s*:\s*")[^"]*'), rb"\1" + HIDDEN),
    ((b"key", b"Key", b"KEY"), re.compile(rb'(?i)("(?:x-)?api[_-]?key"\s*:\s*")[^"]*'), rb"\1" + HIDDEN),
)


class Redactor:
    """Replaces known keys, and whatever looks like one, by `[hidden]`."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._keys = sorted({key.encode() for key in keys if key}, key=len, reverse=True)

    def finds(self, *raw: bytes) -> bool:
        """Whether a known key is in one of these."""
        return any(key in one for key in self._keys for one in raw)

    def known(self, raw: bytes) -> bytes:
        """Without the known keys; cheap enough for every body."""
        for key in self._keys:
            if key in raw:
                raw = raw.replace(key, HIDDEN)
        return raw

    def bytes(self, raw: bytes) -> bytes:
        """Without anything that must not leave the process."""
        raw = self.known(raw)
        for needles, shape, instead in _SHAPES:
            if any(needle in raw for needle in needles):
                raw = shape.sub(instead, raw)
        return raw

    def text(self, text: str) -> str:
        return self.bytes(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")
