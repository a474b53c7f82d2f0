"""Pages of anything that a service lists."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from emulator.core.errors import InvalidArgument

T = TypeVar("T")
DEFAULT_SIZE = 50
LARGEST = 200


@dataclass(frozen=True)
class Page(Generic[T]):
    """One page; an empty token ends the list (WIRE 1.9)."""

    rows: list[T]
    next_token: str
    total: int = 0
    start: int = 0


@dataclass(frozen=True)
class Query(Generic[T]):
    """Says what a list request asks for: `size` 0 = no wish; `wanted` filters; oldest first unless `newest_first`."""

    size: int = 0
    token: str = ""
    wanted: Callable[[T], bool] | None = None
    newest_first: bool = False

    def page(self, items: Sequence[T], position: Callable[[T], int]) -> Page[T]:
        """The page of `items` (oldest first, `position` strictly rising) that is asked for; raises InvalidArgument."""
        chosen = items if self.wanted is None else [item for item in items if self.wanted(item)]
        if not self.newest_first:
            return page(chosen, self.size, self.token, position)
        turned = page(
            chosen[::-1], self.size, self.token and f"t-{read_token(self.token)}", lambda item: -position(item)
        )
        return Page(turned.rows, turned.next_token.replace("-", ""), turned.total, turned.start)


def page(items: Sequence[T], size: int, token: str, position: Callable[[T], int], cap: int = LARGEST) -> Page[T]:
    """The items after `token`, in the order of their strictly rising `position`; raises InvalidArgument."""
    start = bisect_right(items, read_token(token), key=position) if token else 0
    end = start + page_size(size, cap)
    rows = list(items[start:end])
    return Page(rows, f"t{position(rows[-1])}" if end < len(items) else "", len(items), start)


def page_size(size: int, cap: int = LARGEST) -> int:
    """Say how many a page holds when `size` were asked (0 = no wish); raises InvalidArgument."""
    if size < 0:
        raise InvalidArgument(f"pageSize is {size}: give a number of at least 0")
    return max(1, min(size or DEFAULT_SIZE, cap))


def read_token(token: str) -> int:
    """The position in a page token; raises InvalidArgument for one that is not ours."""
    digits = token[1:].removeprefix("-")
    if token[:1] != "t" or not digits.isascii() or not digits.isdigit() or len(digits) > 20:
        raise InvalidArgument(f"invalid page token {token[:40]!r}")
    return int(token[1:])
