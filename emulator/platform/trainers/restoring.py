"""Restores a training session from outside of its program: its model loads a saved state, with the optimizer's."""

import threading

import orjson

from emulator.core.errors import FailedPrecondition, InvalidArgument, Unavailable
from emulator.platform.trainers.trainers import Pool
from emulator.platform.trainers.training import Training
from emulator.platform.trainers.training_sessions import TrainingSessions
from emulator.state.entities import Session

PATIENCE_S = 600.0


class Restoring:
    """Loads states into the models of sessions."""

    def __init__(self, sessions: TrainingSessions, pool: Pool, training: Training) -> None:
        self._sessions = sessions
        self._pool = pool
        self._training = training

    def load(self, account: str, session_id: str, path: str) -> Session:
        """Load `path` into the one model of a session, and wait for it.

        Raises NotFound, InvalidArgument for what cannot be loaded, FailedPrecondition without exactly one model.
        """
        session = self._sessions.running(account, session_id)
        if not path:
            raise InvalidArgument("path is required: what save_weights answered")
        trainer = self._pool.trainer(account, session.id)
        models = [one.id for one in trainer.models.values() if not one.spec.base_only and one.session_id == session.id]
        if len(models) != 1:
            raise FailedPrecondition(
                f"{session.name} has {len(models)} models that are trained, and this loads into one: call load_weights "
                "on the training client"
            )
        request = {"model_id": models[0], "path": path, "optimizer": True}
        promise = self._training.submit(trainer, "load_weights", request, b"", lambda: None)
        done = threading.Event()
        promise.watch(done.set)
        if not done.wait(PATIENCE_S) or promise.payload is None:
            raise Unavailable(f"{session.name} is still loading {path[:120]!r}")
        answer = orjson.loads(promise.payload)
        if "error" in answer:
            raise InvalidArgument(str(answer["error"]))
        return session
