"""An adapter that is loaded on a deployment, beside others or merged into what the deployment serves."""

from dataclasses import dataclass
from functools import cached_property

from emulator.core.lifecycle import Pending
from emulator.core.names import Subject


@dataclass
class DeployedModel:
    """A deployed model: `model` and `deployment` are full names.

    `default` says that the model's name alone means this one, `merged` that the deployment's name alone does.
    """

    account: str
    id: str
    created: int
    updated: int
    model: str
    deployment: str
    state: str = "DEPLOYED"
    default: bool = False
    merged: bool = False
    display_name: str = ""
    description: str = ""
    pending: Pending | None = None

    @cached_property
    def name(self) -> str:
        return f"accounts/{self.account}/deployedModels/{self.id}"

    @cached_property
    def subject(self) -> Subject:
        """The names that its quirks are selected by."""
        return Subject(account=self.account, deployment=self.deployment.rpartition("/")[2])
