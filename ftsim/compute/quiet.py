"""Calls into libraries that warn about things which are meant here."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from emulator.core import own_warnings

_one_at_a_time = threading.RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence this thread's warnings inside; one thread at a time, since torch's seed exists once per process."""
    with _one_at_a_time, own_warnings.ignored():
        yield
