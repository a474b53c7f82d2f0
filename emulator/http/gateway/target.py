"""The two flavours of the trainer gateway differ in whose trainer, session and promises a call means."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from emulator.platform.platform import Platform
from emulator.platform.trainers.futures import Promise
from emulator.platform.trainers.trainer import Trainer
from emulator.state.entities import Checkpoint


class GatewayTarget(Protocol):
    """One caller's view of the gateway. Every method may raise NotFound."""

    platform: Platform

    def within(self) -> str:
        """Give what the full names of those whose promises may be fetched begin with."""

    def health(self) -> int:
        """Give the HTTP status of healthz."""

    def capabilities(self) -> Sequence[Mapping[str, Any]]:
        """Give `supported_models`; raises FailedPrecondition where nobody can tell."""

    def names(self) -> list[str]:
        """List checkpoints that load_weights accepts; raises FailedPrecondition where nobody can tell."""

    def create_session(self) -> str:
        """Open a client session and give its id."""

    def heartbeat(self, session_id: str) -> None:
        """Note that a client session is still in use."""

    def trainer(self, body: Mapping[str, Any]) -> Trainer:
        """Give the trainer of the model that a body names; raises InvalidArgument when it names none."""

    def create_model(self, body: Mapping[str, Any], fingerprint: bytes) -> Promise:
        """Accept a create_model. An equal `fingerprint` under the same number is the same request, sent again."""

    def weights(self, path: str) -> Checkpoint:
        """Give the row that a path means."""

    def refusal(self, verb: str) -> str | None:
        """Say why this flavour does not serve a verb that clients know, None if it does."""
