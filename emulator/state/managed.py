"""A data set or a managed job, which only is kept: what somebody imported is read, and nothing is made of it."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from emulator.core.names import Subject


@dataclass
class Managed:
    """A data set or a managed job that somebody imported: `body` is the resource as a client reads it.

    Checkpoints may be listed under a job; nothing is trained for one, and no further is made.
    """

    account: str
    collection: str
    id: str
    created: int
    state: str = "JOB_STATE_COMPLETED"
    base_model: str = ""
    lora_rank: int = 0
    max_context_length: int = 0
    forward_only: bool = True
    request_state_cleared: bool = False
    running: bool = False
    body: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def name(self) -> str:
        return f"accounts/{self.account}/{self.collection}/{self.id}"

    @cached_property
    def subject(self) -> Subject:
        """Its quirks are selected by this."""
        return Subject(account=self.account, job=self.id)

    @property
    def machine(self) -> str:
        """None at all."""
        return ""
