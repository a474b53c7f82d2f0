"""What the two flavours of the trainer gateway differ in: whose trainer, session and promises a call means."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from emulator.platform.platform import Platform
from emulator.platform.trainers.futures import Promise
from emulator.platform.trainers.trainer import Trainer
from emulator.state.entities import Checkpoint


class Site(Protocol):
    """One caller's view of the gateway. Every method may raise NotFound."""

    platform: Platform

    def within(self) -> str:
        """What the full names of those whose promises may be fetched begin with."""

    def health(self) -> int:
        """The HTTP status of healthz."""

    def capabilities(self) -> Sequence[Mapping[str, Any]]:
        """`supported_models`; raises FailedPrecondition where nobody can tell."""

    def names(self) -> list[str]:
        """Checkpoints that load_weights accepts; raises FailedPrecondition where nobody can tell."""

    def create_session(self) -> str: ...

    def heartbeat(self, session_id: str) -> None: ...

    def trainer(self, body: Mapping[str, Any]) -> Trainer:
        """The trainer of the model that a body names; raises InvalidArgument when it names none."""

    def create_model(self, body: Mapping[str, Any], fingerprint: bytes) -> Promise: ...

    def weights(self, path: str) -> Checkpoint:
        """The row that a path means."""

    def refusal(self, verb: str) -> str | None:
        """Why this flavour does not serve a verb that the other one does."""
