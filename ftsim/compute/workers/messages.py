"""The messages between the emulator and a process that computes for it, pickled by multiprocessing's connections.

Both ends are one program of one user, and meet at a socket in a folder that is nobody else's.
"""

import pickle
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emulator.backend import BaseModel

ACKNOWLEDGE = "acknowledge"
"""The method that stands for the callback of the save made last of a model."""
WRITE = "write"
"""The method that stands for writing what the save made last of a model has staged; an `address` is told of its end."""


GIVES_BACK = {"MALLOC_MMAP_THRESHOLD_": str(4 << 20)}
"""The environment of a rank of a group, for glibc: memory of a gathered layer goes back to the system when it is freed.

Left alone, glibc takes ever larger tensors from a heap that shrinks at its end alone, and a rank with half of the
weights holds more than a process with all of them.
"""


@dataclass(frozen=True)
class Settings:
    """All that a process needs to make a backend like the emulator's."""

    cache: Path
    device: str | None
    dtype: str
    threads: int
    compute: tuple[str, ...] = ()


@dataclass(frozen=True)
class Open:
    """Asks for a trainer, under a number."""

    trainer: int
    base_model: BaseModel
    lora_rank: int
    max_context_length: int


@dataclass(frozen=True)
class Call:
    """Asks for a method of a trainer."""

    trainer: int
    method: str
    arguments: tuple[Any, ...] = ()
    named: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Saved:
    """A save without its callbacks; `staged` where it is still to be written."""

    step: int
    previous_snapshot: str | None
    staged: bool = False


@dataclass(frozen=True)
class Failure:
    """An error that crosses between processes: pickled, where that can be done, else by its name and words."""

    name: str
    words: str
    trace: str
    pickled: bytes = b""

    @classmethod
    def of(cls, error: BaseException) -> "Failure":
        """The failure that stands for an error."""
        trace = "".join(traceback.format_exception(error))
        try:
            pickled = pickle.dumps(error)
            pickle.loads(pickled)
        except Exception:  # an exception can refuse in any way
            pickled = b""
        return cls(type(error).__name__, str(error), trace, pickled)

    def error(self) -> BaseException:
        """The error as it is to be raised."""
        found: BaseException = pickle.loads(self.pickled) if self.pickled else _named(self.name, self.words)
        found.add_note(f"In the process of the trainer:\n{self.trace}")
        return found


def _named(name: str, words: str) -> Exception:
    error: Exception = type(name, (Exception,), {})(words)
    return error
