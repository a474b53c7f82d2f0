"""Counters that no row has yet, in a file beside the rows: written as they grow, a killed process loses none."""

import contextlib
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import orjson

FILE = "usage.log"
Counters = Mapping[str, int]


class Tally:
    """Lines of a name and its counters, each with a sum; of several with one name the last holds.

    A line is with the system when `note` returns: it outlives the process, and a power failure once the system has
    written it out. Where nothing can be written, nothing is: the counters wait in memory then.
    """

    def __init__(self, file: Path) -> None:
        self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, key: tuple[object, ...], counters: Counters) -> None:
        """Write one line; it begins with the end of the last, which may be torn."""
        body = orjson.dumps([key, counters])
        with contextlib.suppress(OSError):
            os.write(self._descriptor, b"\n%08x %b" % (zlib.crc32(body), body))

    def read(self) -> Iterator[tuple[tuple[object, ...], Counters]]:
        """The lines that are as they were written."""
        with contextlib.suppress(OSError), open(self._descriptor, "rb", closefd=False) as file:
            file.seek(0)
            for line in file:
                said, _, body = line.rstrip(b"\n").partition(b" ")
                if body and said == b"%08x" % zlib.crc32(body):
                    key, counters = orjson.loads(body)
                    yield tuple(key), counters

    def empty(self) -> None:
        """Forget all: rows have it."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)
