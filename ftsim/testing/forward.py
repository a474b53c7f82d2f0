"""The clock of tests under `@pytest.mark.fast_forward`, which their child processes share."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ftsim.shared_clock import VARIABLE, package, python_path


def install() -> Callable[[], None]:
    """Share a clock that stands still for now; returns what removes its file. A clock that is shared already stays."""
    if package().shared() is not None:
        return lambda: None
    descriptor, name = tempfile.mkstemp(prefix="ftsim-clock-")
    os.close(descriptor)
    package().Table.make(name)
    package().install(name)
    return lambda: Path(name).unlink(missing_ok=True)


@contextmanager
def moving() -> Iterator[None]:
    """Let the clock move when everything sleeps; afterwards the time of day is the machine's again."""
    clock = package().shared()
    if clock.armed:  # the whole of pytest runs under `ftsim run --fast-forward`
        yield
        return
    clock.arm()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(VARIABLE, clock.path)
            patch.setenv("PYTHONPATH", python_path(os.environ.get("PYTHONPATH")))
            yield
    finally:
        clock.disarm()
