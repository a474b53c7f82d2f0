"""The ground a scenario plays on: a fresh emulator with a tiny real model, and the vendor's clients on it."""

import contextlib
import logging
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx

from emulator.core.clock import SECOND, Clock
from emulator.journal.journal import Exchange
from emulator.platform.jobs.spec import JobSpec
from emulator.quirks.engine import Quirks
from emulator.server import Emulator
from emulator.state.entities import Checkpoint, Job
from ftsim.scenarios.support.fake_time import FakeTime, fake_time
from ftsim.testing.tiny import NAME, tiny_model

BASE = NAME
OTHER_BASE = "accounts/fireworks/models/tiny-other"
RATE = 0.05
_LENGTH, _STRIDE = 6, 7


class Stage:
    """What one scenario uses; `with Stage(backend) as stage` starts it and takes everything away again."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._services: list[Any] = []
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> "Stage":
        self.folder = Path(tempfile.mkdtemp(prefix="ftsim-scenario-"))
        self._undo.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.emulator = self._undo.enter_context(
            Emulator(self._backend, models={BASE: tiny_model(), OTHER_BASE: tiny_model()})
        )
        self.time = FakeTime(self.clock.advance)
        self._undo.enter_context(_quiet())
        return self

    def __exit__(self, *exception: object) -> None:
        with ThreadPoolExecutor(4) as closing:
            list(closing.map(_close, self._services))
        self._undo.close()

    # -- the emulator

    @property
    def quirks(self) -> Quirks:
        return self.emulator.quirks

    @property
    def clock(self) -> Clock:
        return self.emulator.clock

    @property
    def account(self) -> str:
        return self.emulator.account

    @property
    def url(self) -> str:
        return self.emulator.url

    @property
    def key(self) -> str:
        return self.emulator.api_key

    def exchanges(self, *endpoints: str) -> list[Exchange]:
        """What was asked of these endpoints, oldest first; of all without any."""
        return [entry for entry in self.emulator.journal if not endpoints or entry.endpoint in endpoints]

    def stop_the_clock(self) -> None:
        """Let the emulator's clock stand just after a full second; from then on only `clock.advance` moves it."""
        stopped = time.time_ns()
        self.clock._wall_ns = lambda: stopped
        self.clock.advance((SECOND - self.clock.now() % SECOND) / SECOND + 0.005)

    def rows(self, job: str) -> list[Checkpoint]:
        """The rows of a job as they are, oldest first."""
        return list(self.emulator.platform.checkpoints.rows(self.job_name(job)))

    def live(self, client: Any) -> Any:
        """The real model behind a training client, on the trainer's side."""
        for trainer in self.emulator.platform.trainers._running.values():
            if client.model_id in trainer.models:
                return trainer.backend._models[client.model_id]  # type: ignore[attr-defined]
        raise LookupError(f"no trainer holds {client.model_id}")

    def weights(self, client: Any) -> str:
        """A digest of what the trainer trains for this client, read from its memory."""
        from ftsim.compute.sampler.weights import digest

        return digest({name: value.detach() for name, value in self.live(client).trained.items()})

    def trained_on(self, client: Any) -> list[int]:
        """The numbers of the batches that a client's model was trained on, in order, from the journal."""
        bodies = [entry.json for entry in self.exchanges("forward_backward")]
        sent = [body["forward_backward_input"]["data"] for body in bodies if body["model_id"] == client.model_id]
        firsts = [data[0]["model_input"]["chunks"][0]["tokens"][0] for data in sent]
        return [(first - 1) // _STRIDE for first in firsts]

    def job_name(self, job: str) -> str:
        return f"accounts/{self.account}/rlorTrainerJobs/{job}"

    # -- the vendor's clients

    @cached_property
    def http(self) -> httpx.Client:
        """Plain HTTP with the key, for what the SDK cannot say."""
        return self._undo.enter_context(httpx.Client(base_url=self.url, headers={"X-Api-Key": self.key}, timeout=30))

    @cached_property
    def manager(self) -> Any:
        """A `TrainerJobManager`: jobs, their checkpoints, promotion."""
        from fireworks.training.sdk import TrainerJobManager

        return self.closed_at_the_end(TrainerJobManager(api_key=self.key, base_url=self.url))

    @cached_property
    def deployments(self) -> Any:
        """A `DeploymentManager`."""
        from fireworks.training.sdk import DeploymentManager

        return self.closed_at_the_end(DeploymentManager(api_key=self.key, base_url=self.url))

    def closed_at_the_end(self, client: Any) -> Any:
        """The client itself; a test that keeps its error must not keep its connections."""
        self._undo.callback(client.close)
        return client

    def job_config(self, job: str, rank: int = 0, **facts: Any) -> Any:
        """A `TrainerJobConfig` for the tiny model."""
        from fireworks.training.sdk import TrainerJobConfig

        return TrainerJobConfig(
            **{"base_model": BASE, "lora_rank": rank, "requested_job_id": job, "max_context_length": 64,
               "accelerator_type": "NVIDIA_H200_141GB", "accelerator_count": 1, **facts}
        )  # fmt: skip

    def job(self, job: str = "job-1", rank: int = 0, **facts: Any) -> Job:
        """A running job, made without a request."""
        spec = JobSpec(**{"base_model": BASE, "lora_rank": rank, "max_context_length": 64, **facts})
        return self.emulator.platform.jobs.create(self.account, spec, job)

    def service(self, job: str = "job-1") -> Any:
        """A `FiretitanServiceClient` on a job's trainer, closed at the end."""
        from fireworks.training.sdk import FiretitanServiceClient

        gateway = f"{self.url}/training/v1/rlorTrainerJobs/{self.account}/{job}"
        service = FiretitanServiceClient(base_url=gateway, api_key=self.key)
        self._services.append(service)
        return service

    def serverless(self) -> Any:
        """A `FiretitanServiceClient` with a training session of its own in the pool, closed at the end."""
        from fireworks.training.sdk import FiretitanServiceClient

        service = FiretitanServiceClient(base_url=f"{self.url}/training/v1/serverless", api_key=self.key)
        self._services.append(service)
        return service

    def client(self, job: str = "job-1", rank: int = 0, **facts: Any) -> Any:
        """A training client on a job, which is made unless it exists."""
        if self.job_name(job) not in self.emulator.world.jobs:
            self.job(job, rank, **facts)
        return self.service(job).create_training_client(base_model=BASE, lora_rank=rank)

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


def batch(number: int = 0) -> list[Any]:
    """One of 17 fixed batches of one short sequence; its first token tells its number."""
    from ftsim.training.sdk import types

    tokens = [(_STRIDE * number + 3 * at + 1) % 120 for at in range(_LENGTH)]
    count = _LENGTH - 1
    tensors = {
        "target_tokens": types.TensorData(data=tokens[1:], dtype="int64", shape=[count]),
        "weights": types.TensorData(data=[1.0] * count, dtype="float32", shape=[count]),
    }
    return [types.Datum(model_input=types.ModelInput.from_ints(tokens[:-1]), loss_fn_inputs=tensors)]


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


def _close(service: Any) -> None:
    with contextlib.suppress(Exception):
        service.close()
