"""Checksums of rows, and of which rows there are: what a disk has changed is found before it is served.

A row's checksum is over kind, key and body. The rows of one kind under one parent are siblings: how many there are and
the sum of their checksums stand in a row of their own, and what all of those are in one more, the root; so a row that
has gone is missed, too, and whoever asks for some siblings needs to read no others. XXH3, 64 bits, as a signed number.
"""

from dataclasses import dataclass
from typing import NamedTuple

import xxhash

from emulator.core.errors import StorageFailed

Family = tuple[str, str]
"""Siblings by their kind and their parent."""
_HALF = 1 << 63


class Siblings(NamedTuple):
    """The number of them, the sum of their checksums, and the latest moment that one of them ever held (microseconds).

    The latter may be that of one that is gone.
    """

    rows: int = 0
    total: int = 0
    latest: int = 0

    def without(self, one: int) -> "Siblings":
        """These, less a row with this checksum."""
        return self._replace(rows=self.rows - 1, total=_signed(self.total - one))

    def beside(self, one: int, moment: int = 0) -> "Siblings":
        """These, and a row with this checksum."""
        return Siblings(self.rows + 1, _signed(self.total + one), max(self.latest, moment))

    def checksum(self, family: Family) -> int:
        """The checksum that the row of sums itself must have."""
        return checksum(*family, b"%d %d %d" % self)


@dataclass
class Sums:
    """All siblings there are by family, and their root: the sum of what each row of sums must have."""

    of: dict[Family, Siblings]
    root: Siblings

    def take(self, changed: "Sums") -> None:
        """Be as these say, which has changed; families without siblings are none any more."""
        self.root = changed.root
        for family, siblings in changed.of.items():
            if siblings.rows:
                self.of[family] = siblings
            else:
                self.of.pop(family, None)

    def whole(self) -> bool:
        """Say whether all families are there."""
        root = Siblings()
        for family, siblings in self.of.items():
            root = root.beside(siblings.checksum(family))
        return root == self.root


def checksum(kind: str, key: str, body: bytes) -> int:
    """The checksum of a row."""
    return xxhash.xxh3_64_intdigest(b"%s\0%s\0%s" % (kind.encode(), key.encode(), body)) - _HALF


def parent_of(key: str) -> str:
    """The name of what a row belongs to: its own name is that, a collection, and its id, in which there is no slash."""
    return key.rsplit("/", 2)[0]


def account_of(key: str) -> str:
    """The account that a row is of, by its name or its parent's; "" for the emulator's own rows."""
    first, _, rest = key.partition("/")
    return rest.partition("/")[0] if first == "accounts" else ""


def damaged(what: str) -> StorageFailed:
    """Tell people about a row that is not what was stored, or that cannot be read, and what to do."""
    return StorageFailed(
        f"the state folder's metadata.sqlite is damaged ({what}): stop this emulator; `ftsim state recover` keeps the "
        "rows that are whole and makes others from the blobs"
    )


def _signed(number: int) -> int:
    """The number modulo 2^64, as SQLite holds it."""
    return (number + _HALF) % (1 << 64) - _HALF
