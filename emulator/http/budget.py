"""Bodies cost memory once they are parsed: estimated while they come, under a budget that follows the free memory."""

import contextlib
from pathlib import Path

from emulator.core import limits
from emulator.core.errors import PayloadTooLarge, Unavailable

SMALL = 1 << 16
"""Bytes of a body that nobody counts."""
_COSTS = ((b",", 64), (b"[", 96), (b"{", 256), (b'"', 24))
"""Bytes that a value, a list, an object and either end of a string take as Python objects and in the parser: upper
bounds, reckoned from the sizes of CPython's objects and not measured."""


class Budget:
    """The memory that bodies hold together; each is a `Share`, from its first byte until its request is over."""

    def __init__(self, body_limit: int = limits.BODY.value) -> None:
        """`body_limit` is in bytes of one body as it is sent."""
        self.body_limit = body_limit
        self._taken = 0

    def too_long(self) -> PayloadTooLarge:
        """The error for a body that is over the limit."""
        return PayloadTooLarge(f"the request body is over {self.body_limit} bytes: send fewer datums per call")

    def share(self) -> "Share":
        return Share(self)

    def take(self, cost: int, own: int) -> None:
        """Let a body that cost `own` so far cost more; raises PayloadTooLarge, or Unavailable."""
        free = free_memory()
        if own > min(limits.PARSED.value, free // 4):
            raise PayloadTooLarge(
                f"the request body would take over {min(limits.PARSED.value, free // 4) >> 20} MiB once it is read "
                f"({free >> 20} MiB are free): send fewer datums per call"
            )
        if own > SMALL and self._taken + cost > (free + self._taken) // limits.PARSED_SHARE.value:
            raise Unavailable("other requests hold the memory that there is: ask again when they are answered")
        self._taken += cost

    def give_back(self, cost: int) -> None:
        self._taken -= cost


class Share:
    """The cost of one body."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._seen = 0
        self._taken = 0
        self._counted = 0

    def count(self, chunk: bytes) -> None:
        """A part of the body came; raises PayloadTooLarge or Unavailable when it is too much."""
        self._seen += len(chunk)
        if self._seen > self._budget.body_limit:
            raise self._budget.too_long()
        self._counted += 2 * len(chunk) + sum(cost * chunk.count(sign) for sign, cost in _COSTS)
        more = self._counted - self._taken
        if self._seen > SMALL and more > limits.MIB:
            self._budget.take(more, self._counted)
            self._taken = self._counted

    @property
    def open(self) -> bool:
        """True while it holds memory."""
        return self._taken > 0

    def close(self) -> None:
        self._budget.give_back(self._taken)
        self._taken = 0


def free_memory() -> int:
    """Bytes that this process may still take: of the machine, of its control group, of its address space."""
    found = [_line(Path("/proc/meminfo"), "MemAvailable")]
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        found.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        if soft != resource.RLIM_INFINITY:
            found.append(soft - (_line(Path("/proc/self/status"), "VmSize") or 0))
    known = [bytes_ for bytes_ in found if bytes_ is not None]
    return max(0, min(known, default=4 * limits.PARSED.value))


def _line(file: Path, name: str) -> int | None:
    """A size in a file of lines such as `MemAvailable:  123 kB`."""
    with contextlib.suppress(OSError, ValueError):
        for line in file.read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return None
