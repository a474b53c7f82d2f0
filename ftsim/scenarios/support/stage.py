"""A scenario's surroundings: a fresh emulator with a tiny real model, and the vendor's clients on it."""

import contextlib
import logging
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from emulator.core.clock import SECOND
from emulator.journal.journal import Exchange
from emulator.platform.jobs.spec import JobSpec
from emulator.server import Emulator
from emulator.state.entities import Job
from ftsim.scenarios.support.fake_time import FakeTime, fake_time
from ftsim.testing import stage as testing
from ftsim.testing.clients import RATE, batch, number_of
from ftsim.testing.tiny import NAME, tiny_experts, tiny_model

BASE = NAME
OTHER_BASE = "accounts/fireworks/models/tiny-other"
EXPERTS = "accounts/fireworks/models/tiny-experts"


class Stage(testing.Stage):
    """Everything that one scenario uses: a fresh emulator, clients on it, fake time, and a folder."""

    def __init__(self, emulator: Emulator, folder: Path) -> None:
        super().__init__(emulator)
        self.folder = folder
        self.time = FakeTime(self.clock.advance)

    def exchanges(self, *endpoints: str) -> list[Exchange]:
        """The exchanges with these endpoints, oldest first; with all of them when none is named."""
        return [entry for entry in self.emulator.journal if not endpoints or entry.endpoint in endpoints]

    def stop_the_clock(self) -> None:
        """Let the emulator's clock stand just after a full second; from then on only `clock.advance` moves it."""
        stopped = time.time_ns()
        self.clock._wall_ns = lambda: stopped
        self.clock.advance((SECOND - self.clock.now() % SECOND) / SECOND + 0.005)

    def weights(self, client: Any) -> str:
        """A digest of what the trainer trains for this client, read from its memory."""
        from ftsim.compute.sampler.weights import digest

        return digest({name: value.detach() for name, value in self.live(client).trained.items()})

    def trained_on(self, client: Any) -> list[int]:
        """The numbers of the batches that a client's model was trained on, in order, from the journal."""
        bodies = [entry.json for entry in self.exchanges("forward_backward")]
        sent = [body["forward_backward_input"]["data"] for body in bodies if body["model_id"] == client.model_id]
        firsts = [data[0]["model_input"]["chunks"][0]["tokens"][0] for data in sent]
        return [number_of(first) for first in firsts]

    def job(self, job: str = "job-1", rank: int = 0, **facts: Any) -> Job:
        """A running job, made without a request."""
        spec = JobSpec(**{"base_model": BASE, "lora_rank": rank, "max_context_length": 64, **facts})
        return self.emulator.platform.jobs.create(self.account, spec, job)

    def client(self, job: str = "job-1", rank: int = 0, **facts: Any) -> Any:
        """A training client on a job, which is made unless it exists."""
        if self.job_name(job) not in self.emulator.world.jobs:
            self.job(job, rank, **facts)
        return self.training_client(job, rank)

    def ask(self, client: Any, verb: str, job: str = "job-1", **body: Any) -> dict[str, Any]:
        """Say exactly this to a trainer, for a model of its own, and wait for the operation's result."""
        return self._ask(f"/training/v1/rlorTrainerJobs/{self.account}/{job}/api/v1", client, verb, body)

    def _ask(self, base: str, client: Any, verb: str, body: dict[str, Any]) -> dict[str, Any]:
        accepted = self.http.post(f"{base}/{verb}", json={"model_id": client.model_id, **body}).json()
        return dict(self.http.post(f"{base}/retrieve_future", json={"request_id": accepted["request_id"]}).json())

    def ask_pool(self, client: Any, verb: str, **body: Any) -> dict[str, Any]:
        """As `ask`, on the serverless pool."""
        return self._ask("/training/v1/serverless/api/v1", client, verb, body)

    def checkpoints(self, client: Any, job: str = "job-1", *, run: str = "run", **options: Any) -> Any:
        """Our own `TrainingCheckpoints` on a client; `run` names the folder with its cursor file."""
        from ftsim.training.checkpoints.manager import TrainingCheckpoints

        return TrainingCheckpoints(
            client, self.manager, trainer_id=job, log_path=self.folder / run, sleep=self.time.sleep, **options
        )

    @contextlib.contextmanager
    def fake_time(self, *modules: ModuleType) -> Iterator[FakeTime]:
        """Let modules of a client, the vendor's by default, sleep on the emulator's clock instead of waiting."""
        with fake_time(self.time, *(modules or sleep_modules())):
            yield self.time


@contextlib.contextmanager
def open_stage(backend: Any) -> Iterator[Stage]:
    """A stage on a new emulator with tiny models; everything is taken away again at the end."""
    with (
        tempfile.TemporaryDirectory(prefix="ftsim-scenario-", ignore_cleanup_errors=True) as folder,
        Emulator(backend, models={BASE: tiny_model(), OTHER_BASE: tiny_model(), EXPERTS: tiny_experts()}) as emulator,
        _quiet(),
        contextlib.closing(Stage(emulator, Path(folder))) as stage,
    ):
        yield stage


def train(client: Any, *batches: int) -> list[float]:
    """One optimizer step on each batch; the loss before each."""
    from ftsim.training.sdk import types

    losses = []
    for number in batches:
        losses.append(client.forward_backward(batch(number), "cross_entropy").result().metrics["loss:sum"])
        client.optim_step(types.AdamParams(learning_rate=RATE)).result()
    return losses


def count_steps(client: Any, number: int = 0) -> int:
    """Take an optimizer step and tell how many the trainer's optimizer counts by now."""
    from ftsim.training.sdk import types

    client.forward_backward(batch(number), "cross_entropy").result()
    return int(client.optim_step(types.AdamParams(learning_rate=RATE)).result().metrics["step"])


def sleep_modules() -> tuple[ModuleType, ...]:
    """The modules of the vendor's client that wait between retries and polls, for `Stage.fake_time`."""
    from fireworks.training.sdk import deployment, errors, fireworks_client, trainer, weight_syncer
    from fireworks.training.sdk._core import _base_client
    from fireworks.training.sdk._core.lib import api_future_impl, internal_client_holder

    return (
        _base_client,
        errors,
        fireworks_client,
        trainer,
        deployment,
        weight_syncer,
        api_future_impl,
        internal_client_holder,
    )


def newest_as_text(rows: list[dict[str, Any]]) -> str:
    """The id that naive code takes for the newest row: the one with the greatest createTime, as text."""
    return short(max(rows, key=lambda row: row["createTime"])["name"])


def short(name: str) -> str:
    """The last part of a resource name."""
    return name.rsplit("/", 1)[-1]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the clients' logs, which are full of the failures asked for, off the terminal."""
    logs = [logging.getLogger(name) for name in ("fireworks", "ftsim.training")]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)
