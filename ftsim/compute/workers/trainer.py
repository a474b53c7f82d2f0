"""A trainer that computes in a worker."""

import contextlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from emulator.backend import CheckpointType, ModelInfo, ModelSpec, SavedState
from emulator.core.errors import TrainerLost
from ftsim.compute.workers.messages import ACKNOWLEDGE, WRITE, Call, Failure, Saved
from ftsim.compute.workers.worker import Worker


class WorkerTrainer:
    """`emulator.backend.Trainer` whose methods are carried out in a worker, with the same answers and errors.

    Every method raises TrainerLost once the life of the worker in which it was opened is over.
    """

    def __init__(self, worker: Worker, life: int, number: int) -> None:
        self._worker = worker
        self._life = life
        self._number = number

    def create_model(self, spec: ModelSpec) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = self._call("create_model", spec)
        return answer

    def unload_model(self, model_id: str) -> None:
        self._call("unload_model", model_id)

    def info(self, model_id: str) -> ModelInfo:
        answer: ModelInfo = self._call("info", model_id)
        return answer

    def forward(self, model_id: str, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = self._call("forward", model_id, batch)
        return answer

    def forward_backward(self, model_id: str, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = self._call("forward_backward", model_id, batch)
        return answer

    def optim_step(
        self, model_id: str, adam_params: Mapping[str, Any], normalization: str | None
    ) -> Mapping[str, float]:
        answer: Mapping[str, float] = self._call("optim_step", model_id, adam_params, normalization)
        return answer

    def save_state(self, model_id: str, folder: Path) -> SavedState:
        return self._saved(model_id, self._call("save_state", model_id, folder))

    def load_state(self, model_id: str, folder: Path, *, optimizer: bool, keep_optimizer: bool = False) -> None:
        self._call("load_state", model_id, folder, optimizer=optimizer, keep_optimizer=keep_optimizer)

    def save_sampler(
        self,
        model_id: str,
        folder: Path,
        *,
        identity: str,
        checkpoint_type: CheckpointType = "base",
        export_precision: str | None = None,
    ) -> SavedState:
        how = {"identity": identity, "checkpoint_type": checkpoint_type, "export_precision": export_precision}
        return self._saved(model_id, self._call("save_sampler", model_id, folder, **how))

    def load_adapter(self, model_id: str, folder: Path) -> None:
        self._call("load_adapter", model_id, folder)

    def close(self) -> None:
        with contextlib.suppress(TrainerLost):
            self._call("close")
        self._worker.trainers.discard(self._number)

    def _call(self, method: str, *arguments: Any, **named: Any) -> Any:
        return self._worker.call(self._life, Call(self._number, method, arguments, named))

    def _saved(self, model_id: str, saved: Saved) -> SavedState:
        write = partial(self._write, model_id) if saved.staged else None
        return SavedState(saved.step, saved.previous_snapshot, partial(self._acknowledge, model_id), write)

    def _write(self, model_id: str) -> None:
        """Have it written beside the calls that follow, and wait for that."""
        with self._worker.beside(self._life, Call(self._number, WRITE, (model_id,))) as told:
            try:
                failed: Failure | None = told.recv()
            except (EOFError, OSError) as error:
                raise TrainerLost("its process ended in a save") from error
        if failed is not None:
            raise failed.error()

    def _acknowledge(self, model_id: str) -> None:
        """Nothing can go wrong with the save any more, not even by a worker that is gone: the next call tells."""
        with contextlib.suppress(TrainerLost):
            self._call(ACKNOWLEDGE, model_id)
