"""One trainer: what runs behind a job or a training session.

Its client sessions and models live here, and are lost when it stops (WIRE 2.4).
"""

import contextlib
import contextvars
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from emulator.backend import ModelInfo, ModelSpec, Trainer as BackendTrainer
from emulator.core import own_warnings, threads
from emulator.core.clock import Clock
from emulator.core.errors import FailedPrecondition, InvalidArgument, NotFound, PlatformError, TrainerLost, Unavailable
from emulator.core.names import CheckpointScope
from emulator.platform.checkpoints.checkpoints import Origin
from emulator.platform.trainers.futures import Futures, Promise
from emulator.platform.trainers.owners import Owner, Owners
from emulator.platform.trainers.sequencer import Sequencer
from emulator.quirks import trainers
from emulator.quirks.engine import Quirk
from emulator.state.entities import Checkpoint
from emulator.state.world import World

_log = logging.getLogger("emulator.trainer")

PARTS = ("train_unembed", "train_mlp", "train_attn")

Answer = Mapping[str, Any]
BESIDE = frozenset({"forward", "forward_backward", "optim_step", "create_model"})
"""Operations that go on beside a save that is being written; every other one waits until that has its answer."""


@dataclass(frozen=True)
class Later:
    """The rest of an operation, which gives its answer; another thread does it while steps go on."""

    finish: Callable[[], Answer]


class Beside:
    """The place for what a trainer does beside its steps: one thing at a time."""

    def __init__(self) -> None:
        self._idle = threading.Event()
        self._idle.set()

    def begin(self, work: Callable[[], object], name: str) -> None:
        """Start it on a thread of its own, which the interpreter waits for at its end; `wait` comes before."""
        self._idle.clear()

        def run() -> None:
            try:
                work()
            finally:
                self._idle.set()

        threads.start(run, name)

    def wait(self, timeout: float | None = None) -> None:
        """Return once it is done, or so many seconds are over."""
        self._idle.wait(timeout)


Work = Callable[[], Answer | Later]


class ClientSessions:
    """The connections of service clients to one trainer, by their ids."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._known: set[str] = set()

    def create(self) -> str:
        session_id = f"ses-{self._world.ids.hex(32)}"
        self._known.add(session_id)
        return session_id

    def adopt(self, session_id: str) -> None:
        """Know a session that was opened elsewhere, as those of the pool are."""
        self._known.add(session_id)

    def check(self, session_id: str) -> None:
        """Raises NotFound for a session that the trainer does not know."""
        if session_id not in self._known:
            raise NotFound(
                f"session {session_id[:80]!r} not found: the trainer was restarted since; connect again "
                "(create_session, create_model) and load a checkpoint"
            )


@dataclass
class LiveModel:
    """A model on a trainer. Its saves are listed on `scope`; `snapshots` names its sampler saves, oldest first.

    One that was made through tinker's own address is `native`: its saves have names, lifetimes and paths as there.
    """

    spec: ModelSpec
    info: ModelInfo
    session_id: str
    scope: CheckpointScope
    snapshots: list[str] = field(default_factory=list)
    native: bool = False

    @cached_property
    def id(self) -> str:
        return self.spec.model_id

    @cached_property
    def lora_rank(self) -> int:
        return self.spec.lora.rank if self.spec.lora else 0

    @property
    def trained(self) -> dict[str, bool]:
        """Say which parts of the model have an adapter, under the names of create_model's settings."""
        lora = self.spec.lora
        return {} if lora is None else {part: getattr(lora, part) for part in PARTS}

    def origin(self, saved_as: str, ttl_s: float = 0.0) -> Origin:
        """Say where a save of it comes from; `saved_as` is what the client asked for, `ttl_s` 0 keeps it for ever."""
        return Origin(
            self.scope, self.spec.base_model.name, self.lora_rank, self.id, saved_as, ttl_s=ttl_s, trained=self.trained
        )


class Trainer:
    """One running trainer: sessions, models, and a worker thread on which everything that computes happens."""

    def __init__(
        self, owner: Owner, world: World, futures: Futures, owners: Owners, open_backend: Callable[[], BackendTrainer]
    ) -> None:
        self.owner = owner
        self.sessions = ClientSessions(world)
        self.models: dict[str, LiveModel] = {}
        self.stopping = threading.Event()
        self._world = world
        self._futures = futures
        self._owners = owners
        self._open_backend = open_backend
        self._created: dict[tuple[str, int], tuple[bytes, Promise]] = {}
        self._beside = Beside()
        self._sequencer = Sequencer(owner.id, world.clock)
        self._sequencer.start()

    @cached_property
    def backend(self) -> BackendTrainer:
        """The compute side, opened at first use; from the worker thread only."""
        return self._open_backend()

    def submit(
        self, verb: str, model_id: str, work: Work, *, seq: int | None = None, fingerprint: bytes = b""
    ) -> Promise:
        """Accept an operation and return at once; failures reach the caller through the promise (WIRE 2.6, 2.7)."""
        subject = self.owner.subject._replace(endpoint=verb)
        if seq is not None and self._world.quirks.spend(trainers.RPC_DEDUPE, subject):
            try:
                known = self._sequencer.recall(model_id, seq, fingerprint)
            except InvalidArgument as reused:
                return self._refuse(verb, model_id, reused)
            if known is not None:
                return known
        if self._world.quirks.value(trainers.RPC_ORDER, self.owner.subject) == "arrival":
            seq = None  # nobody waits for a call that is late (FAILURES F23)
        promise = self._futures.open(self.owner.name, self.owner.subject, model_id, verb)
        if self._world.quirks.spend(trainers.FUTURES_NEVER_RESOLVE, subject):
            self._sequencer.submit(promise, _nothing, seq=seq, fingerprint=fingerprint)
        else:
            run = self._running(promise, work)
            self._sequencer.submit(promise, run, seq=seq, fingerprint=fingerprint)
        return promise

    def submit_create(
        self, session_id: str, model_seq: int | None, fingerprint: bytes, work: Work, model_id: str
    ) -> Promise:
        """Accept a create_model; `(session_id, model_seq_id)` is its idempotency key."""
        if model_seq is None:
            return self.submit("create_model", model_id, work)
        known = self._created.get((session_id, model_seq))
        if known is None:
            promise = self.submit("create_model", model_id, work)
            self._created[session_id, model_seq] = (fingerprint, promise)
            return promise
        if known[0] != fingerprint:
            text = f"sequence number was reused: model_seq_id {model_seq} of session {session_id!r} was another model"
            return self._refuse("create_model", model_id, InvalidArgument(text))
        return known[1]

    def model(self, model_id: str, trains: str = "") -> LiveModel:
        """A live model; raises NotFound, and FailedPrecondition for one that is not trained by the verb `trains`."""
        model = self.models.get(model_id)
        if model is None:
            raise NotFound(
                f"No session found for model_id {model_id[:80]!r}: it was unloaded, or the trainer restarted since; "
                "create the model again and load a checkpoint"
            )
        if trains and self.owner.forward_only:
            raise FailedPrecondition(
                f"{trains}: this trainer is forward-only; create a job without forwardOnly to train"
            )
        if trains and model.spec.base_only:
            raise FailedPrecondition(f"{trains}: {model.id} is a frozen reference model (base_only)")
        return model

    def unload(self, model_id: str) -> None:
        """Forget a model; from the worker thread."""
        model = self.models.pop(model_id, None)
        if model is None:
            return
        self.backend.unload_model(model_id)
        if not model.lora_rank and self._world.quirks.value(trainers.UNLOAD_CLEARS_REQUEST_STATE, self.owner.subject):
            self._sequencer.forget(model_id)
            self._owners.clear_request_state(self.owner)

    def stop(self, why: str) -> None:
        """End the trainer: what runs may finish, what waits fails, models and sessions are gone."""
        self.stopping.set()
        for promise in self._sequencer.close():
            self._futures.fail(promise, Unavailable(why))
        threads.start(self._close_backend, f"close-{self.owner.id}")

    def join(self, timeout: float) -> None:
        until = Clock.elapsed() + timeout
        self._sequencer.join(timeout)
        self._beside.wait(max(0.0, until - Clock.elapsed()))

    def pause(self, quirk: Quirk[float]) -> None:
        """Real seconds of a slow operation; raises Unavailable when the trainer stops meanwhile."""
        if self.stopping.wait(self._world.quirks.value(quirk, self.owner.subject)):
            raise Unavailable(f"the trainer of {self.owner.name} stopped")

    def _close_backend(self) -> None:
        self.join(600)
        self.models.clear()
        if (opened := self.__dict__.pop("backend", None)) is not None:
            opened.close()

    def _running(self, promise: Promise, work: Work) -> Callable[[], None]:
        def turn() -> Answer | Later:
            if promise.verb not in BESIDE:
                self._beside.wait()
                if self.stopping.is_set():
                    raise Unavailable(f"the trainer of {self.owner.name} stopped")
            return work()

        context = contextvars.copy_context()  # what it changes is the submitting request's doing
        return partial(context.run, own_warnings.apart(partial(self._carry_out, promise, turn)))

    def _carry_out(self, promise: Promise, work: Work) -> None:
        try:
            done = work()
            if isinstance(done, Later):
                finish = partial(contextvars.copy_context().run, self._carry_out, promise, done.finish)
                self._beside.begin(finish, f"save-{self.owner.id}")
            else:
                self._futures.resolve(promise, done)
        except TrainerLost as lost:
            self._futures.fail(promise, self._preempted(lost))
        except BaseException as error:  # whoever waits is told, and the next operation has its turn
            if not hasattr(error, "message"):
                _log.exception("%s failed on %s", promise.verb, self.owner.name)
            self._futures.fail(promise, error)

    def _preempted(self, lost: TrainerLost) -> Unavailable:
        """The failure of what runs once the owner is preempted: whoever reads it finds no trainer that runs."""
        with contextlib.suppress(PlatformError):  # it has stopped meanwhile
            self._owners.preempt(self.owner)
        return Unavailable(f"the trainer stopped: {self.owner.name} is {self.owner.state}, {lost.message}")

    def _refuse(self, verb: str, model_id: str, error: Exception) -> Promise:
        promise = self._futures.open(self.owner.name, self.owner.subject, model_id, verb)
        self._futures.fail(promise, error)
        return promise


def _nothing() -> None:
    """Run in place of a call whose answer never comes (FAILURES F10)."""


def check_fits(row: Checkpoint, model: LiveModel) -> None:
    """A checkpoint knows its base model and rank (FAILURES C10, C11)."""
    base = model.spec.base_model.name
    if row.base_model != base:
        raise InvalidArgument(f"checkpoint {row.id!r} is of {row.base_model}, the model is {base}")
    if row.lora_rank != model.lora_rank:
        raise InvalidArgument(
            f"checkpoint {row.id!r} has LoRA rank {row.lora_rank}, the model has {model.lora_rank}: "
            f"create job and client with lora_rank {row.lora_rank}"
        )
