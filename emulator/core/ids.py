"""The only source of ids and randomness; one seed fixes all of them."""

import random
import secrets
import string
import threading
from collections.abc import Mapping
from typing import Any

_BASE36 = string.digits + string.ascii_lowercase


def secret() -> str:
    """An API key that nobody guesses: of no seed, the same nowhere."""
    return f"fw_{secrets.token_hex(20)}"


def one_time_token() -> str:
    """Make what stands in a link that is good for one visit: nobody guesses it either."""
    return secrets.token_urlsafe(32)


class Ids:
    """Seeded names. `boot` keeps ids of a restarted emulator apart from those it gave before."""

    def __init__(self, seed: int = 0, boot: int = 0) -> None:
        self.seed = seed
        self.boot = boot
        self._random = random.Random(f"{seed}/{boot}")
        self._aside = random.Random(f"{seed}/{boot}/aside")
        self._lock = threading.Lock()

    def state(self) -> dict[str, Any]:
        """Return where both sources stand, as plain data."""
        with self._lock:
            sources = [self._random.getstate(), self._aside.getstate()]
        return {"seed": self.seed, "boot": self.boot, "sources": [[s[0], list(s[1]), s[2]] for s in sources]}

    @classmethod
    def at(cls, state: Mapping[str, Any]) -> "Ids":
        """Go on from a saved state; raises ValueError, KeyError or TypeError for what is none."""
        ids = cls(int(state["seed"]), int(state["boot"]))
        for source, (version, numbers, gauss) in zip((ids._random, ids._aside), state["sources"], strict=True):
            source.setstate((version, tuple(numbers), gauss))
        return ids

    def hex(self, digits: int) -> str:
        with self._lock:
            return f"{self._random.getrandbits(4 * digits):0{digits}x}"

    def hex_aside(self, digits: int) -> str:
        """Draw as `hex` does, from a source of its own: for names made on worker threads, which no client ever sees."""
        with self._lock:
            return f"{self._aside.getrandbits(4 * digits):0{digits}x}"

    def base36(self, length: int) -> str:
        """Lowercase letters and digits, as the service's own job ids look (WIRE 7)."""
        with self._lock:
            return "".join(self._random.choices(_BASE36, k=length))

    def uniform(self) -> float:
        """A number in [0, 1), for faults that strike with a probability."""
        with self._lock:
            return self._aside.random()
