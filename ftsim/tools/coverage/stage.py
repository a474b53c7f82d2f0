"""The stage of the calls: a light emulator with a job, a session, checkpoints, a promoted adapter and a deployment."""

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from emulator.light import LightBackend
from emulator.server import Emulator
from ftsim.testing.clients import Clients, take_step

BASE = "accounts/fireworks/models/qwen3-8b"
JOB, DEPLOYMENT, MODEL = "job", "sampler", "adapter"


@dataclass
class Stage:
    """Clients on the emulator, and names of what is there."""

    emulator: Emulator
    clients: Clients
    training: Any
    saved: str
    """A resumable save of the job."""
    pooled_state: str = ""
    """The same of the serverless pool, and a snapshot there."""
    pooled_sampler: str = ""
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def new(self, what: str) -> str:
        """A name that nothing has."""
        return f"{what}-{next(self._numbers)}"

    def row(self, kind: str) -> str:
        """The full name of the newest row of a kind."""
        rows = self.clients.manager.list_checkpoints(JOB)
        return str([row["name"] for row in rows if row["checkpointType"].endswith(kind)][-1])


@contextlib.contextmanager
def opened() -> Iterator[Stage]:
    """A stage with all of that in it."""
    from fireworks.training.sdk import DeploymentConfig, TrainerJobConfig

    with Emulator(LightBackend()) as emulator:
        clients = Clients(emulator.url, emulator.api_key, emulator.account)
        try:
            config = TrainerJobConfig(base_model=BASE, lora_rank=4, requested_job_id=JOB)
            clients.manager.create_and_wait(config)
            training = clients.service(JOB).create_training_client(base_model=BASE, lora_rank=4)
            take_step(training, 0)
            training.save_state("kept").result()
            training.save_weights_for_sampler_ext("served", checkpoint_type="base")
            stage = Stage(emulator, clients, training, "kept")
            clients.manager.promote_checkpoint(name=stage.row("INFERENCE_LORA"), output_model_id=MODEL, base_model=BASE)
            clients.deployments.create_or_get(
                DeploymentConfig(
                    deployment_id=DEPLOYMENT,
                    base_model=BASE,
                    accept_shapeless_risk=True,
                    hot_load_trainer_job=clients.job_name(JOB),
                )
            )
            yield stage
        finally:
            clients.close()
