"""One emulator per process and the vendor's clients on it, kept from example to example.

Clients that hold state of a trainer are made anew when that state is lost; nothing here sleeps.
"""

import atexit
import contextlib
import logging
import shutil
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import httpx

from emulator.core.errors import NotFound
from emulator.server import Emulator
from ftsim.testing import ground
from ftsim.testing.tiny import NAME, tiny_model

_QUICK = Path("/dev/shm")
BATCHES = 3
RATE = 0.05


class Stage:
    """The emulator over a state folder, and what drives it."""

    def __init__(self, backend: Any = None) -> None:
        import torch

        from ftsim.compute.backend import TorchBackend

        torch.set_num_threads(1)
        logging.getLogger("fireworks").setLevel(logging.CRITICAL)  # refusals are looked for here
        base = _QUICK if _QUICK.is_dir() else None
        self._folder = Path(tempfile.mkdtemp(prefix="ftsim-stage-", dir=base))
        self._backend = backend or TorchBackend(self._folder / "base-models", device="cpu", dtype="float32")
        self._closing = ThreadPoolExecutor(4, thread_name_prefix="close-client")
        self._services: list[Any] = []
        self._left: list[Future[None]] = []
        self._port = 0
        self._start()
        atexit.register(self.close)

    def _start(self) -> None:
        self.emulator = Emulator(
            self._backend, state_dir=self._folder / "state", port=self._port, models={NAME: tiny_model()}
        ).start()
        self._port = self.emulator.port

    def restart(self) -> None:
        """Stop the emulator and start it again on the same state folder and port; live models are lost."""
        self.drop_clients()
        wait(self._left)
        self.emulator.stop()
        self._start()

    def reset(self) -> None:
        self.drop_clients()
        self.emulator.reset()

    def drop_clients(self) -> None:
        """Close clients aside; a close waits for its own background tasks."""
        self._left = [left for left in self._left if not left.done()]
        self._left += [self._closing.submit(_close, service) for service in self._services]
        self._services = []

    def close(self) -> None:
        self._closing.shutdown(wait=False)
        if "http" in self.__dict__:
            self.http.close()
        self.emulator.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def account(self) -> str:
        return self.emulator.account

    @cached_property
    def manager(self) -> Any:
        """The control plane's client."""
        from fireworks.training.sdk import TrainerJobManager

        return TrainerJobManager(api_key=self.emulator.api_key, base_url=self.emulator.url)

    @cached_property
    def http(self) -> httpx.Client:
        """For what the vendor's clients refuse to say."""
        return httpx.Client(base_url=self.emulator.url, headers={"X-Api-Key": self.emulator.api_key})

    @cached_property
    def deployments(self) -> Any:
        from fireworks.training.sdk import DeploymentManager

        return DeploymentManager(api_key=self.emulator.api_key, base_url=self.emulator.url)

    def job_config(self, job: str, rank: int) -> Any:
        from fireworks.training.sdk import TrainerJobConfig

        return TrainerJobConfig(
            base_model=NAME, lora_rank=rank, requested_job_id=job, max_context_length=64,
            accelerator_type="NVIDIA_H200_141GB", accelerator_count=1,
        )  # fmt: skip

    def trainer(self, job: str, rank: int) -> Any:
        """A new training client on a running job."""
        from fireworks.training.sdk import FiretitanServiceClient

        service = FiretitanServiceClient(base_url=self.gateway(job), api_key=self.emulator.api_key)
        self._services.append(service)
        return service.create_training_client(base_model=NAME, lora_rank=rank)

    def gateway(self, job: str) -> str:
        return f"{self.emulator.url}/training/v1/rlorTrainerJobs/{self.account}/{job}"

    def syncer(self, job: str, client: Any, rank: int) -> Any:
        """A WeightSyncer and the deployment it loads onto, attached to the job's bucket."""
        from fireworks.training.sdk import DeploymentConfig, WeightSyncer

        self.deployments.create_or_get(
            DeploymentConfig(
                deployment_id=job, base_model=NAME, description="for tests", accept_shapeless_risk=True,
                hot_load_trainer_job=f"accounts/{self.account}/rlorTrainerJobs/{job}",
            )
        )  # fmt: skip
        return WeightSyncer(
            policy_client=client, deploy_mgr=self.deployments, deployment_id=job, base_model=NAME,
            warmup_after_hotload=False, lora_rank=rank,
        )  # fmt: skip

    def truth(self, job: str, client: Any) -> ground.Truth:
        return ground.look(ground.live_model(self.emulator, job, client.model_id))

    def job(self, job: str) -> Any:
        """The entity behind a job; raises NotFound."""
        return self.emulator.platform.jobs.get(self.account, job)

    def row(self, job: str, name: str) -> Any:
        """The entity behind a row; raises NotFound."""
        found = self.emulator.world.checkpoints.get(f"accounts/{self.account}/rlorTrainerJobs/{job}/checkpoints/{name}")
        if found is None:
            raise NotFound(f"{job} has no row {name}")
        return found

    def blob(self, row: Any) -> Path:
        return self.emulator.platform.blobs.path(row.blob)


def _close(service: Any) -> None:
    with contextlib.suppress(Exception):
        service.close()


@cache
def stage() -> Stage:
    """The stage of this process."""
    return Stage()


@cache
def batch(number: int) -> list[Any]:
    """One of a few fixed batches of one short sequence."""
    from fireworks.training.sdk import types

    tokens = [(7 * number + 3 * at + 1) % 120 for at in range(6)]
    tensors = {
        "target_tokens": types.TensorData(data=tokens[1:], dtype="int64", shape=[5]),
        "weights": types.TensorData(data=[1.0] * 5, dtype="float32", shape=[5]),
    }
    return [types.Datum(model_input=types.ModelInput.from_ints(tokens[:-1]), loss_fn_inputs=tensors)]


def take_step(client: Any, number: int, rate: float = RATE) -> None:
    """One optimizer step on one batch; both requests are under way at once."""
    from fireworks.training.sdk import types

    gradient = client.forward_backward(batch(number), "cross_entropy")
    step = client.optim_step(types.AdamParams(learning_rate=rate))
    gradient.result()
    step.result()
