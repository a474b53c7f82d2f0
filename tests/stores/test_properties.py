"""The property machine of jobs, with the vendor's SDK and real trainers, over PostgreSQL and an S3 server."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from emulator.state.homes import Servers
from emulator.state.object_blobs import ObjectBlobs
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


class ServerMachine(PlatformMachine):
    """A platform whose blobs are broken on the store: a copy that is broken here is fetched again."""

    @contextmanager
    def truncated(self, path: Path, left: float) -> Iterator[None]:
        blobs = self.stage.emulator.platform.blobs
        assert isinstance(blobs, ObjectBlobs)
        name, whole = path.relative_to(blobs.root), path.read_bytes()
        try:
            blobs.store.write(str(name), whole[: int(len(whole) * left)])
            blobs.let_go(str(name.parent))
            yield
        finally:
            blobs.store.write(str(name), whole)
            blobs.let_go(str(name.parent))


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
    run_machine(ServerMachine, 0, runs=runs, steps=steps)
    assert stage.emulator.world.store.trouble == ""
