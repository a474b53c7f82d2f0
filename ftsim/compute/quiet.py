"""Calls into libraries that warn about things which are meant here."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_one_at_a_time = threading.RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings inside; one thread at a time, since filters (and torch's seed) exist once per process."""
    with _one_at_a_time, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
