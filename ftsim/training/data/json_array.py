"""The values of a JSON array, one after another, out of a file of which only a part is in memory."""

import codecs
import json
import re
from collections.abc import Iterator
from typing import IO, Any

CHUNK = 1 << 20
"""Bytes that are read at a time."""
_SPACE = re.compile(r"[ \t\r\n]*")
_LONGEST_TOKEN = 16
"""Characters within which a text that ends too early may be refused before its end: a literal, or an escape."""


def values(stored: IO[bytes]) -> Iterator[Any]:
    """The array's values; raises `ValueError` for what is no JSON array, `UnicodeDecodeError` for what is not UTF-8."""
    text = _Text(stored)
    text.take("[")
    if text.next() == "]":
        text.take("]")
    else:
        while True:
            yield text.value()
            if text.next() == "]":
                text.take("]")
                break
            text.take(",")
    if text.next():
        raise ValueError(f"{text.next()!r} stands behind the array's end")


class _Text:
    """The file as characters, of which those that are read are forgotten when more are needed."""

    def __init__(self, stored: IO[bytes]) -> None:
        self._stored = stored
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._json = json.JSONDecoder()
        self._held = ""
        self._at = 0
        self._taken = 0
        self._ended = False

    def next(self) -> str:
        """The next character that is no space; empty at the end of the file."""
        while True:
            if space := _SPACE.match(self._held, self._at):
                self._at = space.end()
            if self._at < len(self._held) or self._ended:
                return self._held[self._at : self._at + 1]
            self._read(CHUNK)

    def take(self, wanted: str) -> None:
        if (found := self.next()) != wanted:
            raise ValueError(f"{wanted!r} is wanted, and {found!r} stands there" if found else "it ends too early")
        self._at += 1

    def value(self) -> Any:
        """The next value, for which as much is read as it takes."""
        if not self.next():
            raise ValueError("it ends too early")
        more = CHUNK
        while True:
            try:
                value, end = self._json.raw_decode(self._held, self._at)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated") or error.pos >= len(self._held) - _LONGEST_TOKEN
                if self._ended or not cut:
                    raise
            else:
                if end + 2 < len(self._held) or self._ended:  # 1 may be the beginning of 1.5, or of 1e+5
                    self._at = end
                    return value
            self._read(more)
            more *= 2  # so that a long value is not begun anew too often

    def _read(self, size: int) -> None:
        chunk = self._stored.read(size)
        self._ended = not chunk
        undecoded = len(self._decoder.getstate()[0])
        try:
            text = self._decoder.decode(chunk, final=self._ended)
        except UnicodeDecodeError as error:
            error.start += self._taken - undecoded  # counted from the beginning of the file
            raise
        self._taken += len(chunk)
        self._held, self._at = self._held[self._at :] + text, 0
