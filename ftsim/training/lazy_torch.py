"""Imports the vendor's SDK without torch, whose import takes longer than a short run.

The SDK looks for torch when it is imported and uses it where a program hands it a tensor or a loss of its own. It gets
a stand-in here, which imports torch at the first use. A program that imports torch itself gets torch.
"""

import contextlib
import gc
import importlib
import sys
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from types import ModuleType
from typing import Any

_TORCH = "torch"
_PACKAGES = frozenset({"fireworks", "tinker"})
"""The SDK, and where its types live in its older generation."""
_MODULES = ("fireworks.training.sdk", "fireworks.training.sdk.client", "fireworks.training.sdk.types")


_LOOKED_AT = frozenset({"__func__", "__wrapped__", "__file__"})
"""What is asked of every name of a module by those who look through it."""


class _UsedAtOnceError(Exception):
    """Some module needs torch while it is imported."""


class _Torch(ModuleType):
    """Stands for torch in the modules that were imported meanwhile."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(_TORCH) is self:
            if name in _LOOKED_AT:
                raise AttributeError(name)
            raise _UsedAtOnceError(name)
        return getattr(importlib.import_module(_TORCH), name)


def import_sdk() -> None:
    """Import the SDK; torch is not, unless the SDK cannot do without, or another thread might import it meanwhile."""
    if {_TORCH, *_PACKAGES} & sys.modules.keys() or threading.active_count() > 1 or find_spec(_TORCH) is None:
        return
    before = set(sys.modules)
    try:
        with _standing_in(), _without_collecting():
            for name in _MODULES:
                importlib.import_module(name)
    except Exception:  # whatever it is, the ordinary import meets it again and says it
        for name in set(sys.modules) - before:
            if name.partition(".")[0] in _PACKAGES:
                del sys.modules[name]


@contextlib.contextmanager
def _without_collecting() -> Iterator[None]:
    """Importing makes objects that all stay: looking for garbage meanwhile is a tenth of it."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@contextlib.contextmanager
def _standing_in() -> Iterator[None]:
    sys.modules[_TORCH] = _Torch(_TORCH)
    try:
        yield
    finally:
        sys.modules.pop(_TORCH, None)
