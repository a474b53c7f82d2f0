"""The quotas of an account, as the switches set them, and what is taken of each.

The resource is the service's; which ids it has there nobody outside knows, so these are our own.
"""

from collections.abc import Callable
from dataclasses import dataclass

from emulator.core.errors import NotFound
from emulator.core.names import Subject
from emulator.platform.deployments.deployments import Deployments
from emulator.platform.jobs.jobs import Jobs
from emulator.platform.trainers.training_sessions import TrainingSessions
from emulator.quirks import deployments, jobs, trainers
from emulator.quirks.engine import Quirk
from emulator.state.world import World


@dataclass(frozen=True)
class Quota:
    """A limit of an account: so many at a time, and so many taken now."""

    account: str
    id: str
    most: int
    taken: int

    @property
    def name(self) -> str:
        """The full resource name."""
        return f"accounts/{self.account}/quotas/{self.id}"


class Quotas:
    """Limits by which creates of jobs, runs and deployments are refused. One that is not limited is not listed."""

    def __init__(self, world: World, jobs_: Jobs, sessions: TrainingSessions, deployments_: Deployments) -> None:
        self._world = world
        self._rules: dict[str, tuple[Quirk[int], Callable[[str], int]]] = {
            "deployment-replicas": (deployments.QUOTA, deployments_.replicas_taken),
            "trainer-jobs": (jobs.QUOTA, jobs_.taken),
            "training-runs": (trainers.SESSIONS_QUOTA, sessions.places_taken),
        }

    def list(self, account: str) -> list[Quota]:
        """The quotas of an account, by id."""
        subject = Subject(account=account)
        return [
            Quota(account, name, most, taken(account))
            for name, (rule, taken) in self._rules.items()
            if (most := self._world.quirks.value(rule, subject))
        ]

    def get(self, account: str, quota_id: str) -> Quota:
        """One of them; raises NotFound, also for one that has no limit."""
        found = [one for one in self.list(account) if one.id == quota_id]
        if not found:
            raise NotFound(f"quota {quota_id[:64]!r} not found in account {account}: list its quotas")
        return found[0]
