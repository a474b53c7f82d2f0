"""Finds who owns a trainer, its rows and the calls that it promised to answer: a job, or a training session.

Both are entities with a full name, and each has a service that knows its rules. What runs, saves, lists or promotes
asks `Owners`, and never which of the two it has before it.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from emulator.core.errors import NotFound
from emulator.core.lifecycle import Life
from emulator.core.names import CheckpointScope, OwnerName, Reference, Subject
from emulator.platform.jobs.jobs import Jobs
from emulator.platform.trainers.training_sessions import TrainingSessions
from emulator.state.world import World


class Owner(Protocol):
    """Has what the platform reads of a job or a training session. `lora_rank` is the largest that its trainer takes."""

    account: str
    id: str
    state: str
    base_model: str
    lora_rank: int
    max_context_length: int
    forward_only: bool
    request_state_cleared: bool

    @property
    def name(self) -> str: ...

    @property
    def subject(self) -> Subject: ...

    @property
    def running(self) -> bool: ...

    @property
    def machine(self) -> str: ...


O = TypeVar("O", bound=Owner)  # noqa: E741


class OwnerService(Protocol[O]):
    """The service of all owners of one collection."""

    def get(self, account: str, identifier: str, /) -> O:
        """The owner as it is, a deleted one while it is retained; raises NotFound."""

    def lister(self, account: str, identifier: str, /) -> O:
        """The owner if its rows may be listed; raises NotFound."""

    def running(self, account: str, identifier: str, /) -> O:
        """The owner if its trainer runs, noting that it is in use; raises NotFound."""

    def preempt(self, account: str, identifier: str, /) -> O:
        """Take the machine away: live models are lost."""

    def check_rank(self, owner: O, rank: int, /) -> None:
        """Refuse a LoRA rank (0: all parameters) that its trainer does not train; raises InvalidArgument."""

    def source(self, asking: CheckpointScope, reference: Reference, /) -> CheckpointScope:
        """Say where a checkpoint that a model asks for is listed; raises InvalidArgument, NotFound."""

    @property
    def life(self) -> "Life[Any]": ...


class Owners:
    """The owners of all collections."""

    def __init__(self, world: World, jobs: Jobs, sessions: TrainingSessions) -> None:
        self._world = world
        self._services: dict[str, OwnerService[Any]] = {"rlorTrainerJobs": jobs, "trainingSessions": sessions}

    def get(self, name: OwnerName) -> Owner:
        """The owner of this name, whose rows may be listed; raises NotFound when there is none, or none any more."""
        if name.collection not in self._services and (imported := self._world.managed.get(str(name))) is not None:
            return imported
        owner: Owner = self._service(name).lister(name.account, name.id)
        return owner

    def source(self, asking: CheckpointScope, reference: Reference) -> CheckpointScope:
        return self._service(asking.lister).source(asking, reference)

    def check_rank(self, owner: Owner, rank: int) -> None:
        self._service(OwnerName.parse(owner.name)).check_rank(owner, rank)

    def preempt(self, owner: Owner) -> None:
        self._service(OwnerName.parse(owner.name)).preempt(owner.account, owner.id)

    def clear_request_state(self, owner: Owner) -> None:
        """Others find no checkpoint of it from now on (FAILURES F12)."""
        with self._world.change():
            owner.request_state_cleared = True
            self._world.put(owner)

    def on_stop(self, listener: Callable[[Owner], None]) -> None:
        """Call `listener` whenever an owner's trainer stops running."""
        for service in self._services.values():
            service.life.on_stop(listener)

    def on_purge(self, listener: Callable[[Owner], None]) -> None:
        """Call `listener` when a deleted owner's retention is over and it is forgotten."""
        for service in self._services.values():
            service.life.on_purge(listener)

    def _service(self, name: OwnerName) -> OwnerService[Any]:
        service = self._services.get(name.collection)
        if service is None:
            raise NotFound(f"{str(name)[:200]} not found")
        return service
