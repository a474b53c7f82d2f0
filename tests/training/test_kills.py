"""Client and emulator die by SIGKILL at random moments; the run always ends as if nothing had happened."""

import json
import random
import socket
import time
from collections.abc import Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest

from emulator.server import Emulator
from ftsim.compute.backend import TorchBackend
from ftsim.training.trainers import job_id_for
from tests.forked import CONTEXT
from tests.training.runs import files, rows, start
from tests.training.test_sft_end_to_end import configure

pytestmark = pytest.mark.slow
ENV = {"FIREWORKS_API_KEY": "fw-ftsim-local"}


def serve(state: str, port: int) -> None:
    import torch

    torch.set_num_threads(1)
    with Emulator(TorchBackend(), state_dir=state, port=port, seed=11, api_key=ENV["FIREWORKS_API_KEY"]):
        time.sleep(3600)


class Site:
    """An emulator process on a state folder, and the clients it has; `seed` decides who dies and when."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.state = folder / "state"
        self.random = random.Random(seed)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.server = self.serve()

    def serve(self) -> ForkServerProcess:
        process = CONTEXT.Process(target=serve, args=(str(self.state), self.port))
        process.start()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return process
        raise AssertionError("the emulator does not start")

    def run(self, config: Any, *, kill_after_s: float | None = None) -> bool:
        """Run the recipe; kill it, or first the emulator, after a while; whether it came to its end."""
        client = start(config, ENV | {"FIREWORKS_BASE_URL": f"http://127.0.0.1:{self.port}"})
        client.join(120 if kill_after_s is None else kill_after_s)
        if kill_after_s is None or client.exitcode is not None:
            assert client.exitcode == 0, f"the recipe ended with {client.exitcode}"
            return True
        if self.random.random() < 0.5:
            kill(self.server)
            time.sleep(self.random.random() * 0.2)
            self.server = self.serve()
        kill(client)
        return False


def kill(process: ForkServerProcess) -> None:
    process.kill()
    process.join()


@pytest.fixture
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    site = Site(tmp_path, request.param)
    yield site
    kill(site.server)


def final(site: Site, config: Any) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Optimizer state and weights of the last step, as they lie on disk."""
    kill(site.server)
    with Emulator(TorchBackend(), state_dir=site.state) as emulator:
        found = rows(emulator, job_id_for("sft", config.log_path))
        (sampler,) = [path for name, path in found.items() if name.startswith("step-12-")]
        weights = files(sampler, "*.safetensors")
        state = files(found["step-12"], "*.distcp")
    site.server = site.serve()
    return state, weights


@pytest.mark.parametrize("site", range(20), indirect=True)
def test_a_run_through_any_kills_ends_like_one_without(site: Site, tmp_path: Path, tokenizer_folder: Path) -> None:
    rank = site.random.choice([0, 8])
    quiet = configure(tmp_path, tokenizer_folder, "quiet", lora_rank=rank)
    began = time.monotonic()
    site.run(quiet)
    duration = time.monotonic() - began

    killed = configure(tmp_path, tokenizer_folder, "killed", lora_rank=rank)
    for _ in range(3):
        if site.run(killed, kill_after_s=site.random.uniform(0.1, 0.9) * duration):
            break
    site.run(killed)

    expected, found = final(site, quiet), final(site, killed)
    assert expected[0]
    assert expected == found
    logs = [(Path(config.log_path) / "metrics.jsonl").read_text() for config in (quiet, killed)]
    assert logs[0] == logs[1]
    cursors = [json.loads((Path(config.log_path) / "dataloader.json").read_text()) for config in (quiet, killed)]
    assert cursors[0] == cursors[1]
