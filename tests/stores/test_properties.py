"""The property machine of jobs, with the vendor's SDK and real trainers, over PostgreSQL and an S3 server."""

from collections.abc import Iterator

import pytest

from emulator.state.homes import Servers
from ftsim import Emulator
from ftsim.testing.stage import KeptStage
from ftsim.testing.tiny import NAME, tiny_model
from tests.properties.machines import machine
from tests.properties.machines.platform import PlatformMachine
from tests.properties.profiles import run_machine
from tests.stores.serving import KEY


class ServerStage(KeptStage):
    """A stage whose state is on servers: a restart finds there what it had."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        super().__init__()

    def _started(self, port: int) -> Emulator:
        models = {NAME: tiny_model()}
        return Emulator(self._backend, servers=self._servers, api_key=KEY, port=port, models=models).start()


@pytest.fixture
def stage(database: str, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerStage]:
    made = ServerStage(Servers(database, bucket, lease_s=30.0))
    monkeypatch.setattr(machine, "stage", lambda: made)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("runs", "steps"), [(2, 12), pytest.param(10, 25, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_the_platform_is_its_model_on_servers(stage: ServerStage, runs: int, steps: int) -> None:
    run_machine(PlatformMachine, 0, runs=runs, steps=steps)
    assert stage.emulator.world.store.trouble == ""
