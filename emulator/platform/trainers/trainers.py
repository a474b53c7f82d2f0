"""Finds and starts the trainers of all jobs and sessions, and makes the models that they are asked for.

`Trainers` goes by whom a trainer belongs to; `Pool` finds it by the model or session that a serverless call names.
"""

import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from emulator.backend import Backend, LoraSpec, ModelSpec, Trainer as BackendTrainer
from emulator.core.errors import Conflict, InvalidArgument, NotFound, PlatformError, ResourceExhausted
from emulator.core.names import CheckpointScope, resource
from emulator.platform.models.models import Models
from emulator.platform.route_files import store_of
from emulator.platform.trainers.futures import Futures, Promise
from emulator.platform.trainers.owners import Owner, Owners
from emulator.platform.trainers.trainer import Answer, LiveModel, Trainer
from emulator.platform.trainers.training_sessions import TrainingSessions
from emulator.quirks import inference, jobs, trainers
from emulator.state.entities import Session
from emulator.state.world import World


class Trainers:
    """The trainers of all running jobs and sessions; one is started when its owner is first talked to."""

    def __init__(self, world: World, backend: Backend, owners: Owners, models: Models, futures: Futures) -> None:
        self._world = world
        self._backend = backend
        self._owners = owners
        self._models = models
        self._futures = futures
        self._running: dict[str, Trainer] = {}
        self.unloaded: Callable[[str, str], None] = lambda account, run_id: None
        """Told of a run whose model is unloaded."""
        self._lock = threading.Lock()
        owners.on_stop(lambda owner: self.stop(owner.name, f"the trainer stopped: {owner.name} is {owner.state}"))

    def of(self, owner: Owner) -> Trainer:
        """The trainer of a running job or session; raises NotFound (FAILURES C4)."""
        trainer = self._running.get(owner.name)
        if trainer is None:
            if not owner.running:
                raise NotFound(f"Trainer job not found or not running: {owner.name} is {owner.state}")
            with self._lock:
                trainer = self._running.get(owner.name) or self._start(owner)
        return trainer

    def stop(self, name: str, why: str = "the trainer stopped") -> None:
        """End the trainer of a job or session, if it has one."""
        with self._lock:
            trainer = self._running.pop(name, None)
        if trainer is not None:
            trainer.stop(why)

    def stop_all(self, why: str, *, wait_s: float = 0.0) -> None:
        """End every trainer; waits for running operations at most `wait_s` seconds in all."""
        with self._lock:
            trainers = list(self._running.values())
            self._running.clear()
        for trainer in trainers:
            trainer.stop(why)
        deadline = self._world.clock.elapsed() + wait_s
        for trainer in trainers:
            trainer.join(max(0.0, deadline - self._world.clock.elapsed()))

    def live_models(self, owner: str) -> list[str]:
        """Ids of the models on the trainer of a job or session."""
        trainer = self._running.get(owner)
        return list(trainer.models) if trainer else []

    def computes(self, owner: str) -> str:
        """Say how the trainer of a job or session computes; "" for an owner that is none."""
        found = self._world.jobs.get(owner) or self._world.sessions.get(owner)
        return self._backend.computes(found.base_model) if found is not None and found.base_model else ""

    def create_session(self, trainer: Trainer) -> str:
        """Open a client session; on some trainers that unloads every model (FAILURES F10)."""
        if self._world.quirks.spend(trainers.SESSIONS_CREATE, trainer.owner.subject) == "destructive":
            for model_id in list(trainer.models):
                self.unload_model(trainer, model_id)
        return trainer.sessions.create()

    def create_model(
        self,
        trainer: Trainer,
        request: Mapping[str, Any],
        fingerprint: bytes,
        *,
        model_id: str = "",
        scope: CheckpointScope | None = None,
        native: bool = False,
        admitted: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> Promise:
        """Accept a create_model (WIRE 2.5). `admitted` surrounds the making of the model, on the trainer's thread."""
        model_id = model_id or f"model-{self._world.ids.hex(16)}"
        listed = scope or CheckpointScope(trainer.owner.name)
        session_id, model_seq = str(request.get("session_id", "")), request.get("model_seq_id")

        def work() -> Answer:
            with admitted():
                return self._build(trainer, model_id, session_id, listed, request, native=native)

        key = model_seq if type(model_seq) is int else None
        return trainer.submit_create(session_id, key, fingerprint, work, model_id)

    def unload_model(self, trainer: Trainer, model_id: str) -> Promise:
        """Accept an unload_model; unloading twice is no error (FAILURES F12)."""
        self.unloaded(trainer.owner.account, model_id)
        return trainer.submit("unload_model", model_id, lambda: _unload(trainer, model_id))

    def spec(self, model_id: str, owner: Owner, request: Mapping[str, Any]) -> ModelSpec:
        """Return what create_model asks for, checked against the owner and its machine (FAILURES C10, C11, F11).

        Raises InvalidArgument, ResourceExhausted.
        """
        wanted = request.get("base_model") or owner.base_model
        if wanted != owner.base_model:
            raise InvalidArgument(
                f"this trainer holds {owner.base_model}, not {str(wanted)[:200]}: create a job or session for it"
            )
        base, head = self._models.base(owner.base_model), request.get("projection_head_dim")
        if request.get("base_only"):
            self._check_room(model_id, owner)
            return ModelSpec(model_id, base, base_only=True, projection_head_dim=head)
        config = request.get("lora_config") or {}
        rank = config.get("rank", 0) if isinstance(config, Mapping) else None
        if type(rank) is not int or rank < 0:
            raise InvalidArgument(f"lora_config.rank is {rank!r}: give a rank that the trainer has, {owner.lora_rank}")
        self._owners.check_rank(owner, rank)
        self._check_room(model_id, owner)
        return ModelSpec(model_id, base, lora=_lora_spec(rank, config) if rank else None, projection_head_dim=head)

    def _start(self, owner: Owner) -> Trainer:
        def open_backend() -> BackendTrainer:
            base = self._models.base(owner.base_model)
            return self._backend.open_trainer(
                base, lora_rank=owner.lora_rank, max_context_length=owner.max_context_length
            )

        trainer = Trainer(owner, self._world, self._futures, self._owners, open_backend)
        self._running[owner.name] = trainer
        return trainer

    def _build(
        self,
        trainer: Trainer,
        model_id: str,
        session_id: str,
        scope: CheckpointScope,
        request: Mapping[str, Any],
        *,
        native: bool,
    ) -> Answer:
        trainer.sessions.check(session_id)
        spec = self.spec(model_id, trainer.owner, request)
        capabilities = trainer.backend.create_model(spec)
        info = trainer.backend.info(model_id)
        trainer.models[model_id] = LiveModel(spec, info, session_id, scope, native=native)
        return {"model_id": model_id, "type": "create_model", **capabilities, **self._offered(trainer.owner)}

    def _offered(self, owner: Owner) -> Answer:
        """Tell what a trainer says that it can do beside training, as switches have it say (FAILURES E34, E40)."""
        quirks, offered = self._world.quirks, dict[str, object]()
        if quirks.value(inference.RDMA) != "off":
            offered |= {"supports_rdma_weight_sync": True, "rdma_weight_sync_enabled": True}
        if quirks.value(inference.ROUTING_FORMAT) == "parquet_v1":
            offered |= {"routing_matrix_format": "parquet_v1", "r3_store_id": store_of(owner.id)}
        return offered

    def _check_room(self, model_id: str, owner: Owner) -> None:
        most = self._world.quirks.value(trainers.SESSIONS_MAX_GPU, owner.subject)
        with self._lock:
            crowd = sum(len(one.models) for one in self._running.values() if one.owner.machine == owner.machine)
        if most and crowd >= most:
            raise ResourceExhausted(
                f"Cannot create LoRA session {model_id}: maximum of {most} concurrent sessions reached "
                f"(gpu={most}, cpu=0). Unload an existing model first"
            )


class Pool:
    """The serverless pool (WIRE 2.12): finds and starts the trainers of sessions, and makes their models.

    Each session has a trainer of its own, so none meets another's models.
    """

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
            self._refuse_ended(account, owner)
            raise NotFound(f"No session found for model_id {model_id[:80]!r}: {error.message}") from None

    def _refuse_ended(self, account: str, run_id: str) -> None:
        """Raises Conflict for a run whose session has expired, where the service says so (FAILURES G5)."""
        run = self._world.runs.get(resource(account, "trainingRuns", run_id))
        session = None if run is None else self._world.sessions.get(run.session)
        if session is None or not session.state.endswith("_EXPIRED"):
            return
        if self._world.quirks.value(trainers.SESSIONS_ENDED_RUN, session.subject) == "409":
            raise Conflict(
                f"cannot resume training run {run_id}: run state is EXPIRED, not READY or legacy UNSPECIFIED: begin "
                "another run from its last training checkpoint"
            )

    def create_model(
        self, account: str, request: Mapping[str, Any], fingerprint: bytes, *, native: bool = False
    ) -> Promise:
        """Accept a create_model: a run of its own, or a frozen reference named after its session; raises NotFound.

        A `native` model is named after its session, too: a client of tinker's own knows the name before it is made.
        """
        session = self._sessions.running(account, str(request.get("session_id", "")))
        number = request.get("model_seq_id") or 0
        run = "" if request.get("base_only") else f"run-{self._world.ids.hex(32)}"
        model_id = f"{run}:train:{number}" if run else f"{session.id}:base:{number}"
        if native:
            model_id = f"{session.id}:train:{number}"
        return self._trainers.create_model(
            self._of(session),
            request,
            fingerprint,
            model_id=model_id,
            scope=CheckpointScope(session.name, run),
            native=native,
            admitted=lambda: self._admitted(session, run, model_id, request),
        )

    @contextmanager
    def _admitted(self, session: Session, run: str, model_id: str, request: Mapping[str, Any]) -> Iterator[None]:
        """Surround the making of a model, on the trainer's thread: a place in the quota before, a run after."""
        with self._world.lock:  # one run at a time takes a place
            if run:
                self._sessions.check_quota(session)  # before the request is looked at (FAILURES F19)
            try:
                self._bind(session, model_id, request)
            except PlatformError:
                self._sessions.failed(session)
                raise
            number = request.get("model_seq_id")
            order = number if type(number) is int else 0
            started = self._sessions.start_run(session, run, order) if run else None
        try:
            yield
        except BaseException:
            if started is not None:
                self._sessions.withdraw(started)
            raise

    def _bind(self, session: Session, model_id: str, request: Mapping[str, Any]) -> None:
        """Bind the session to the base model of its first model, once nothing speaks against that model."""
        if session.base_model:
            return
        wanted = request.get("base_model")
        if not isinstance(wanted, str) or not wanted:
            raise InvalidArgument("create_model: base_model is required, accounts/<account>/models/<id>")
        bound = dataclasses.replace(
            session,
            base_model=wanted,
            max_context_length=self._models.visible(session.account, wanted).context_length,
            lora_rank=self._world.quirks.value(jobs.MAX_LORA_RANK, session.subject),
        )
        self._trainers.spec(model_id, bound, request)
        self._sessions.bind(session, bound)

    def _of(self, session: Session) -> Trainer:
        trainer = self._trainers.of(session)
        trainer.sessions.adopt(session.id)
        return trainer


def _lora_spec(rank: int, config: Mapping[str, Any]) -> LoraSpec:
    try:
        seed = None if config.get("seed") is None else int(config["seed"])
        if seed is not None and not -(2**63) <= seed < 2**63:
            raise ValueError(f"seed is {seed}, give one of 64 bits")
        return LoraSpec(
            rank=rank,
            alpha=float(config.get("alpha", 32.0)),
            seed=seed,
            train_attn=bool(config.get("train_attn", True)),
            train_mlp=bool(config.get("train_mlp", True)),
            train_unembed=bool(config.get("train_unembed", True)),
            init_method=config.get("init_method"),
        )
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"lora_config: {error}") from error


def _unload(trainer: Trainer, model_id: str) -> Answer:
    trainer.unload(model_id)
    return {"model_id": model_id, "type": "unload_model"}
