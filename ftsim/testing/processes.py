"""The process of a run: a manager, its client, and the moment at which it is killed."""

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from ftsim.testing.strategies import Killed as InSave

_SAVES = ("save_state", "save_weights_for_sampler", "save_weights_for_sampler_ext")
_LOADS = ("load_state", "load_state_with_optimizer")
Moment = InSave | Literal["loading"]


class ProcessKilled(BaseException):
    """Ends what a process is doing; no `except Exception` of a manager catches it."""


class Process:
    """Watches the saves and loads of one training client, and kills at a chosen moment.

    What handlers of the dying process still write to `log_path` is undone: a process that was killed writes nothing.
    """

    def __init__(self, client: Any, log_path: Path) -> None:
        self._log_path = log_path
        self._kept = log_path.with_name(log_path.name + "-kept")
        self._moment: Moment = ""
        self._halves = self._carried_out = 0
        self._inside = False
        for name in (*_SAVES, *_LOADS):
            if hasattr(client, name):
                setattr(client, name, self._watched(getattr(client, name), name in _SAVES))

    def call(self, do: Callable[[], Any], moment: Moment = "", halves: int = 1) -> tuple[bool, Any]:
        """Do it and be killed at `moment`; says whether the process was killed, and what the call returned."""
        self._moment, self._halves, self._carried_out = moment, halves, 0
        try:
            return False, do()
        except ProcessKilled:
            shutil.rmtree(self._log_path)
            self._kept.rename(self._log_path)
            return True, None
        finally:
            self._moment = ""

    def _watched(self, call: Callable[..., Any], saves: bool) -> Callable[..., Any]:
        @functools.wraps(call)
        def watched(*args: Any, **options: Any) -> Any:
            if self._inside:  # one of the client's calls makes another
                return call(*args, **options)
            self._inside = True
            try:
                if saves and (self._moment == "before" or (self._moment == "between" and self._carried_out == 1)):
                    self._die()
                answer = call(*args, **options)
                self._carried_out += saves
                last = saves and self._carried_out == self._halves
                dying = (self._moment == "after" and last) or (self._moment == "loading" and not saves)
                if (dying or self._moment == "between") and hasattr(answer, "result"):
                    answer.result()
                if dying:
                    self._die()
                return answer
            finally:
                self._inside = False

        return watched

    def _die(self) -> None:
        shutil.copytree(self._log_path, self._kept)
        self._moment = ""
        raise ProcessKilled
