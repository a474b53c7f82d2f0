"""The serverless pool (WIRE 2.12): whose trainer a call means that names only a model or a session; new models."""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from emulator.core.errors import InvalidArgument, NotFound, PlatformError
from emulator.core.names import CheckpointScope
from emulator.platform.models.models import Models
from emulator.platform.trainers.futures import Promise
from emulator.platform.trainers.trainer import Trainer
from emulator.platform.trainers.trainers import Trainers
from emulator.platform.trainers.training_sessions import TrainingSessions
from emulator.quirks import jobs
from emulator.state.entities import Session
from emulator.state.world import World


class Pool:
    """Finds and starts the trainers of sessions. Each session has one of its own, so none meets another's models."""

    def __init__(self, world: World, sessions: TrainingSessions, trainers: Trainers, models: Models) -> None:
        self._world = world
        self._sessions = sessions
        self._trainers = trainers
        self._models = models

    def trainer(self, account: str, model_id: str) -> Trainer:
        """The trainer of the session that a model is (or was) in; raises NotFound."""
        owner = model_id.partition(":")[0]
        try:
            session = self._sessions.run(account, owner).session_id if owner.startswith("run-") else owner
            return self._of(self._sessions.running(account, session))
        except NotFound as error:
            raise NotFound(f"No session found for model_id {model_id[:80]!r}: {error.message}") from None

    def create_model(self, account: str, request: Mapping[str, Any], fingerprint: bytes) -> Promise:
        """Accept a create_model: a run of its own, or a frozen reference named after its session; raises NotFound."""
        session = self._sessions.running(account, str(request.get("session_id", "")))
        number = request.get("model_seq_id") or 0
        run = "" if request.get("base_only") else f"run-{self._world.ids.hex(32)}"
        model_id = f"{run}:train:{number}" if run else f"{session.id}:base:{number}"
        return self._trainers.create_model(
            self._of(session), request, fingerprint, model_id=model_id, scope=CheckpointScope(session.name, run),
            admitted=lambda: self._admitted(session, run, model_id, request),
        )  # fmt: skip

    @contextmanager
    def _admitted(self, session: Session, run: str, model_id: str, request: Mapping[str, Any]) -> Iterator[None]:
        """What surrounds the making of a model, on the trainer's thread."""
        with self._world.lock:  # one session at a time takes a place
            self._sessions.check_quota(session)  # before the request is looked at (FAILURES F19)
            try:
                self._bind(session, model_id, request)
            except PlatformError:
                self._sessions.failed(session)
                raise
        yield
        if run:
            self._sessions.start_run(session, run)

    def _bind(self, session: Session, model_id: str, request: Mapping[str, Any]) -> None:
        """Bind the session to the base model of its first model, once nothing speaks against that model."""
        if session.base_model:
            return
        wanted = request.get("base_model")
        if not isinstance(wanted, str) or not wanted:
            raise InvalidArgument("create_model: base_model is required, accounts/<account>/models/<id>")
        bound = dataclasses.replace(
            session, base_model=wanted, max_context_length=self._models.visible(session.account, wanted).context_length,
            lora_rank=self._world.quirks.value(jobs.MAX_LORA_RANK, session.subject),
        )  # fmt: skip
        self._trainers.spec(model_id, bound, request)
        self._sessions.bind(session, bound)

    def _of(self, session: Session) -> Trainer:
        trainer = self._trainers.of(session)
        trainer.sessions.adopt(session.id)
        return trainer
