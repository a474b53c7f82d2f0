"""A save of a trainer's model: written aside, made durable, listed, acknowledged; or nothing of it stays."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from emulator.backend import SavedState
from emulator.platform.checkpoints.checkpoints import Checkpoints
from emulator.platform.trainers.curves import Curves
from emulator.platform.trainers.later import Later
from emulator.platform.trainers.trainer import Answer, LiveModel, Trainer
from emulator.quirks import saves
from emulator.state.blobs import Blobs
from emulator.state.entities import Checkpoint


@dataclass(frozen=True)
class Wanted:
    """A save under a name: as what a client asked for it, what a row answers, its lifetime (seconds, 0 for ever)."""

    name: str
    how: str
    answer: Callable[[Checkpoint], Mapping[str, Any]]
    ttl_s: float = 0.0
    seal: Callable[[Path], None] | None = None


def then(state: SavedState, work: Callable[[], None]) -> SavedState:
    """The same save, with something done once its files are there: now, if they are."""
    if (write := state.write) is None:
        work()
        return state

    def both() -> None:
        write()
        work()

    return replace(state, write=both)


class Saving:
    """Carries out saves."""

    def __init__(self, blobs: Blobs, checkpoints: Checkpoints, curves: Curves) -> None:
        self._blobs = blobs
        self._checkpoints = checkpoints
        self._curves = curves

    def save(
        self, trainer: Trainer, model: LiveModel, wanted: Wanted, write: Callable[[Path], SavedState]
    ) -> Answer | Later:
        """Write aside, then list; whatever goes wrong leaves neither a row nor files.

        What the backend has only staged is written and listed later, beside the steps that follow.
        """
        staged = self._blobs.stage()
        with self._undone(staged):
            state = write(staged)
            self._curves.flush(model.id)
        finish = partial(self._finish, trainer, model, wanted, staged, state)
        return finish() if state.write is None else Later(finish)

    def _finish(self, trainer: Trainer, model: LiveModel, wanted: Wanted, staged: Path, state: SavedState) -> Answer:
        with self._undone(staged):
            if state.write is not None:
                state.write()
            trainer.pause(saves.DURATION_S)
            origin = model.origin(wanted.how, wanted.ttl_s)
            row = self._checkpoints.save(origin, wanted.name, staged, state, wanted.seal)
            state.acknowledged()
        return wanted.answer(row)

    @contextmanager
    def _undone(self, staged: Path) -> Iterator[None]:
        """Discard what was staged when something fails; raises StorageFailed for what the disk does not take."""
        try:
            yield
        except BaseException as error:
            self._blobs.discard(staged)
            if isinstance(error, OSError):
                raise self._blobs.failure(error) from error
            raise
