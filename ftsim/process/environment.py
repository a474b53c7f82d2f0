"""This process's environment for a while: what a program under `ftsim run` is given, for work done in this process."""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence


@contextlib.contextmanager
def in_environment(variables: Mapping[str, str], without: Sequence[str] = ()) -> Iterator[None]:
    """Set `variables` and remove those of `without`; afterwards everything is as it was before."""
    before = dict(os.environ)
    os.environ.update(variables)
    for name in without:
        os.environ.pop(name, None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
