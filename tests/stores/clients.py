"""Clients of several processes behind one address, and what they were told."""

import itertools
import os
import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx

from emulator.server import Emulator
from ftsim.testing.wire import Wire
from tests.doubles import BASE
from tests.stores.serving import Process

MAIN = "local"


class Balancer(httpx.BaseTransport):
    """Gives each request to the next process that takes connections, as a load balancer does."""

    def __init__(self, processes: Sequence[Process]) -> None:
        self._processes = processes
        self._next = itertools.count(random.Random(os.getpid()).randrange(8))
        self._inner = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        for _ in range(len(self._processes) * 100):
            process = self._processes[next(self._next) % len(self._processes)]
            request.url = request.url.copy_with(port=httpx.URL(process.url).port)
            request.headers["host"] = f"127.0.0.1:{request.url.port}"
            try:
                return self._inner.handle_request(request)
            except httpx.ConnectError:
                process.back.wait(0.1)
        raise httpx.ConnectError("no process takes connections", request=request)

    def close(self) -> None:
        self._inner.close()


@dataclass
class Told:
    """Notes what a client was told, by full names."""

    jobs: list[str] = field(default_factory=list)
    rows: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    named: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    def lost(self, emulator: Emulator) -> list[str]:
        """List what is not there, in an emulator that has everything; every file is read."""
        world, platform = emulator.world, emulator.platform
        lost = [name for name in self.jobs if name not in world.jobs]
        lost += [name for name in self.rows if name not in world.checkpoints]
        lost += [name for name in self.models if name not in world.models]
        names = {model.name: model.display_name for model in world.models}
        lost += [f"the name of {name}" for name, said in self.named.items() if names.get(name) != said]
        there = [row for name in self.rows if (row := world.checkpoints.get(name)) is not None]
        with ThreadPoolExecutor(8) as several:
            assert all(folder.is_dir() for folder in several.map(platform.checkpoints.folder, there))
        return lost


class Client(threading.Thread):
    """A client of one account: creates jobs, saves, promotes, renames, until it is told to stop.

    A call that fails ends its round; the next one is about another job.
    """

    def __init__(self, processes: Sequence[Process], account: str, key: str) -> None:
        super().__init__(daemon=True)
        self.told = Told()
        self._account = account
        self._http = httpx.Client(
            base_url="http://127.0.0.1:1", transport=Balancer(processes), headers={"X-Api-Key": key}, timeout=60
        )
        self._leave = threading.Event()

    def run(self) -> None:
        with self._http:
            for number in itertools.count(1):
                if self._leave.is_set():
                    return
                try:
                    self.round(f"j{number}")
                except (httpx.HTTPError, AssertionError, KeyError) as error:
                    self.told.refused.append(f"{type(error).__name__}: {error}"[:300])

    def round(self, job: str) -> None:
        """One job from its creation to a promoted model."""
        place, told, http = f"accounts/{self._account}", self.told, self._http
        name = f"{place}/rlorTrainerJobs/{job}"
        made = {"trainingConfig": {"baseModel": BASE}}
        http.post(f"/v1/{place}/rlorTrainerJobs?rlorTrainerJobId={job}", json=made).raise_for_status()
        told.jobs.append(name)
        wire = Wire(http, job, account=self._account)
        assert wire.run("save_weights", 1, path="step-1")["path"] == "step-1"
        told.rows.append(f"{name}/checkpoints/step-1")
        assert "path" in wire.run("save_weights_for_sampler", 2, path="s-0a1b2c3d", checkpoint_type="base")
        told.rows.append(f"{name}/checkpoints/s-0a1b2c3d")
        output = f"{place}/models/m-{job}"
        body = {"output_model": output, "trainer_job_id": name, "base_model": BASE}
        http.post(f"/v1/{place}/checkpoints/s-0a1b2c3d:promote", json=body).raise_for_status()
        told.models.append(output)
        http.patch(f"/v1/{output}", json={"displayName": job}).raise_for_status()
        told.named[output] = job

    def stop(self) -> None:
        """End after this round."""
        self._leave.set()
        self.join(60)
        assert not self.is_alive()
