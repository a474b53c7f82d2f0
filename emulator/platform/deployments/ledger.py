"""The ledger of hot loads: what was signalled, and what each replica did with it (FAILURES E29, E30)."""

from emulator.core.errors import NotFound
from emulator.core.names import Subject
from emulator.platform.deployments.deployments import Deployments
from emulator.platform.deployments.hotload import HotLoad
from emulator.quirks import deployments
from emulator.state.entities import SnapshotLoad
from emulator.state.world import World


class Ledger:
    """The ledgers of all deployments."""

    def __init__(self, world: World, deployments: Deployments, hotload: HotLoad) -> None:
        self._world = world
        self._deployments = deployments
        self._hotload = hotload

    def check_there(self, deployment_id: str) -> None:
        """Raises NotFound on platforms that have neither a ledger nor a hint yet."""
        if not self._world.quirks.value(deployments.HOTLOAD_LEDGER, Subject(deployment=deployment_id)):
            raise NotFound("no such path: hot loads have neither a ledger nor a hint on this platform")

    def loads(self, account: str, deployment_id: str) -> list[SnapshotLoad]:
        """Every snapshot that a replica of the deployment loaded or refused, oldest first; raises NotFound."""
        return self._world.loads.of(self._deployments.get(account, deployment_id).name)

    def signals(self, account: str, deployment_id: str) -> list[list[SnapshotLoad]]:
        """The loads signal by signal, newest first; raises NotFound."""
        self.check_there(deployment_id)
        told: list[list[SnapshotLoad]] = []
        for load in self.loads(account, deployment_id):
            last = told[-1] if told else []
            if last and last[0].identity == load.identity and load.replica not in {one.replica for one in last}:
                last.append(load)
            else:
                told.append([load])
        return told[::-1]

    def reset(self, account: str, deployment_id: str) -> None:
        """Forget what was loaded: replicas serve the base model, the next signal must be full; raises NotFound."""
        self.check_there(deployment_id)
        self._hotload.forget(self._deployments.get(account, deployment_id))

    def loaded_by(self, account: str) -> dict[str, list[str]]:
        """Ids of the deployments that loaded a row, by the row's full name."""
        found: dict[str, list[str]] = {}
        for deployment in self._world.deployments.of(account):
            for load in self._world.loads.of(deployment.name):
                known = found.setdefault(load.checkpoint, [])
                if not load.error and deployment.id not in known:
                    known.append(deployment.id)
        return found
