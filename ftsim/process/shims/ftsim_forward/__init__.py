"""One clock for a program and the emulator: when all that could run sleeps, time moves to the next deadline.

`sitecustomize` installs this where FTSIM_FAST_FORWARD names the file of a shared clock. It needs the standard library
only. docs/fast-forward.md says how idleness is found out and what stays as it is.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
import types
from collections.abc import Sequence
from contextlib import suppress

from ftsim_forward import children, clock, pacer, real, selecting, threads
from ftsim_forward.table import SERVER, Table
from ftsim_forward.waits import parked, process

__all__ = ["SERVER", "Table", "install", "shared"]


def shared() -> Table | None:
    """The clock that this process shares; None when its time is the machine's."""
    return process.table


def install(path: str) -> None:
    """Share the clock of a file from here on; once in a process."""
    if process.table is not None:
        return
    process.table = Table(path)
    children.enter()
    process.before = frozenset(sys._current_frames()) - {_this_thread()}
    pairs = [*threads.replaced(), *clock.replaced(), *selecting.replaced(), *children.replaced()]
    pairs.append((real.fork, _fork))
    threads.install()
    clock.install()
    selecting.install()
    _replace(pairs)
    os.register_at_fork(after_in_child=_forked)
    sys.meta_path.insert(0, _Patching())
    for name, patch in children.PATCHES.items():
        if name in sys.modules:
            patch(sys.modules[name])


def _this_thread() -> int:
    import _thread

    return _thread.get_ident()


def _replace(pairs: Sequence[tuple[object, object]]) -> None:
    """Put the new functions wherever a module has the old ones by now, under whatever name."""
    new = {id(old): one for old, one in pairs}
    for name, module in list(sys.modules.items()):
        if name == "_thread" or name.startswith("ftsim_forward"):
            continue
        for attribute, value in list(getattr(module, "__dict__", {}).items()):
            if id(value) in new:
                with suppress(AttributeError, TypeError):
                    setattr(module, attribute, new[id(value)])


def _fork() -> int:
    """`os.fork` without the pacer, which no child inherits; the child has a row before its parent goes on."""
    _stop_pacer()
    pid = real.fork()
    if pid:
        process.table.enter(pid, os.getpid(), children.OTHER)
    return pid


def _stop_pacer() -> None:
    if process.pacing:
        process.pacing = False
        while pacer.running():
            process.kick()
            real.sleep(0.0001)


def _forked() -> None:
    parked.clear()
    process.starting.clear()
    process.before = frozenset()
    process.pacing = process.ending = False
    process.table.reopen()
    children.enter()


class _Patching(importlib.abc.MetaPathFinder):
    """Finds what waits in C as usual, and has it wait where it can be seen."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in children.PATCHES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def exec_module(module: types.ModuleType) -> None:
            run(module)
            children.PATCHES[name](module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
