"""Notes that are said once about the rows of a file: how often it holds, and where first."""

from collections import Counter
from collections.abc import Callable, Iterable


class Notes:
    """Counts remarks and fields that nothing reads; `tell` says each remark once."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}
        self._unread: Counter[str] = Counter()

    def add(self, remark: str, where: str) -> None:
        self._counts[remark] += 1
        self._first.setdefault(remark, where)

    def unread(self, fields: Iterable[str]) -> None:
        """Fields that no recipe knows; a `Counter` counts as often as it says."""
        self._unread.update(fields)

    def lines(self) -> list[str]:
        """One line a remark, and one that counts unknown fields."""
        said = [f"{remark} ({count} times, first {self._first[remark]})" for remark, count in self._counts.items()]
        if self._unread:
            fields = ", ".join(f"{name} ({count})" for name, count in sorted(self._unread.items()))
            said.append(f"fields that nothing reads: {fields}")
        return said

    def tell(self, say: Callable[[str], None]) -> None:
        for line in self.lines():
            say(line)
