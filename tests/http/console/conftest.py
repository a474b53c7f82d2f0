"""A small emulator with a run that crashed and went on, a browser that was let in, and forms as a page sends them."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from emulator.platform.deployments.spec import DeploymentSpec
from emulator.platform.jobs.spec import JobSpec
from emulator.server import Emulator
from tests.doubles import BASE, DictBackend
from tests.http.gateway.conftest import Wire, batch

JOB = "accounts/local/rlorTrainerJobs/j1"
SHAPE = "accounts/fireworks/deploymentShapes/ds-qwen3-8b"
Send = Callable[..., httpx.Response]


def train(http: httpx.Client, first: int, last: int, load: str = "", every: int = 5) -> Wire:
    """Steps of a new model, with a save at every n-th."""
    wire, seq = Wire(http), 0
    if load:
        seq += 1
        wire.run("load_weights", seq, path=load, optimizer=True)
    for step in range(first, last + 1):
        wire.run("forward_backward", seq + 1, forward_backward_input=batch(1, 2, 3))
        wire.run("optim_step", seq + 2, adam_params={"learning_rate": 0.01})
        seq += 2
        if step % every == 0:
            seq += 1
            wire.run("save_weights", seq, path=f"step-{step}")
    wire.run("save_weights_for_sampler", seq + 1, path=f"fin-{last}")
    return wire


@pytest.fixture
def emu(tmp_path: Path) -> Iterator[Emulator]:
    with Emulator(DictBackend(tmp_path / "backend"), keys={"theirs": "other"}) as emulator:
        emulator.platform.jobs.create("local", JobSpec(base_model=BASE, display_name="my run"), "j1")
        yield emulator


@pytest.fixture
def http(emu: Emulator) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=emu.url, headers={"X-Api-Key": emu.api_key}, timeout=60) as client:
        yield client


@pytest.fixture
def trained(emu: Emulator, http: httpx.Client) -> Emulator:
    """A run whose first session stopped at step 7 and whose second went on from step 5, and a deployment of it."""
    train(http, 1, 7)
    train(http, 6, 11, load="step-5")
    spec = DeploymentSpec(BASE, enable_hot_load=True, hot_load_trainer_job=JOB, deployment_shape=SHAPE)
    emu.platform.deployments.create("local", spec, "d1")
    saved = [row.id for row in emu.world.checkpoints.of(JOB)][-1]
    for identity in (saved, "nowhere"):
        emu.platform.hotload.start("local", "d1", BASE, identity, None)
    return emu


@pytest.fixture
def browser(emu: Emulator) -> Iterator[httpx.Client]:
    """A browser that has followed the link."""
    with httpx.Client(base_url=f"{emu.url}/_ftsim/ui/", follow_redirects=True, timeout=60) as client:
        assert client.get(emu.console_url()).status_code == 200
        yield client


@pytest.fixture
def send(emu: Emulator, browser: httpx.Client) -> Send:
    """Send a form as a page of the console does."""

    def post(path: str, **fields: str) -> httpx.Response:
        found = re.search(r'name="form-token" content="([0-9a-f]+)"', browser.get("clock").text)
        assert found
        return browser.post(path, data={**fields, "form_token": found[1]}, headers={"Origin": emu.url})

    return post
