"""The vendor's clients on one service, and training data for its smallest model."""

import contextlib
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property
from typing import Any

import httpx

from ftsim.testing.tiny import NAME

RATE = 0.05
BATCHES = 3
"""So many batches differ enough for a test that compares states; there are 17."""
_LENGTH, _STRIDE = 6, 7


class Clients:
    """Clients of a service at `url`, made when first asked for; `close` closes them all."""

    def __init__(self, url: str, key: str, account: str) -> None:
        self.url, self.key, self.account = url, key, account
        self._services: list[Any] = []
        self._opened = contextlib.ExitStack()

    def close(self) -> None:
        """Close every client; those of trainers side by side, since each waits for its own background tasks."""
        with ThreadPoolExecutor(4) as closing:
            list(closing.map(close_quietly, self.given_up()))
        self._opened.close()

    def given_up(self) -> list[Any]:
        """The service clients so far, which the caller closes."""
        services, self._services = self._services, []
        return services

    @cached_property
    def http(self) -> httpx.Client:
        """Plain HTTP with the key, for what the vendor's clients refuse to say."""
        return self._opened.enter_context(httpx.Client(base_url=self.url, headers={"X-Api-Key": self.key}, timeout=30))

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
        self._opened.callback(client.close)
        return client

    def job_name(self, job: str) -> str:
        return f"accounts/{self.account}/rlorTrainerJobs/{job}"

    def job_config(self, job: str, rank: int = 0, **facts: Any) -> Any:
        """A `TrainerJobConfig` for the tiny model."""
        from fireworks.training.sdk import TrainerJobConfig

        return TrainerJobConfig(
            **{
                "base_model": NAME,
                "lora_rank": rank,
                "requested_job_id": job,
                "max_context_length": 64,
                "accelerator_type": "NVIDIA_H200_141GB",
                "accelerator_count": 1,
                **facts,
            }
        )

    def service(self, job: str = "job-1") -> Any:
        """A `FiretitanServiceClient` on a job's trainer."""
        return self.service_at(f"{self.url}/training/v1/rlorTrainerJobs/{self.account}/{job}")

    def serverless(self) -> Any:
        """A `FiretitanServiceClient` with a training session of its own in the pool."""
        return self.service_at(f"{self.url}/training/v1/serverless")

    def service_at(self, gateway: str) -> Any:
        """A `FiretitanServiceClient` on the trainer behind any address."""
        from fireworks.training.sdk import FiretitanServiceClient

        self._services.append(FiretitanServiceClient(base_url=gateway, api_key=self.key))
        return self._services[-1]

    def training_client(self, job: str, rank: int) -> Any:
        """A new training client on a running job of the tiny model."""
        return self.service(job).create_training_client(base_model=NAME, lora_rank=rank)

    def syncer(self, job: str, client: Any, rank: int) -> Any:
        """A `WeightSyncer` and the deployment that it loads onto, which reads the job's bucket."""
        from fireworks.training.sdk import DeploymentConfig, WeightSyncer

        self.deployments.create_or_get(
            DeploymentConfig(
                deployment_id=job,
                base_model=NAME,
                description="for tests",
                accept_shapeless_risk=True,
                hot_load_trainer_job=self.job_name(job),
            )
        )
        return WeightSyncer(
            policy_client=client,
            deploy_mgr=self.deployments,
            deployment_id=job,
            base_model=NAME,
            warmup_after_hotload=False,
            lora_rank=rank,
        )


def close_quietly(client: Any) -> None:
    """Close a client whose service may be gone."""
    with contextlib.suppress(Exception):
        client.close()


@cache
def batch(number: int = 0) -> list[Any]:
    """One of 17 fixed batches of one short sequence; its first token tells its number."""
    from fireworks.training.sdk import types

    tokens = [(_STRIDE * number + 3 * at + 1) % 120 for at in range(_LENGTH)]
    count = _LENGTH - 1
    tensors = {
        "target_tokens": types.TensorData(data=tokens[1:], dtype="int64", shape=[count]),
        "weights": types.TensorData(data=[1.0] * count, dtype="float32", shape=[count]),
    }
    return [types.Datum(model_input=types.ModelInput.from_ints(tokens[:-1]), loss_fn_inputs=tensors)]


def number_of(first_token: int) -> int:
    """The number of the batch that begins with this token."""
    return (first_token - 1) // _STRIDE


def take_step(client: Any, number: int, rate: float = RATE) -> None:
    """One optimizer step on one batch; both requests are under way at once."""
    from fireworks.training.sdk import types

    gradient = client.forward_backward(batch(number), "cross_entropy")
    step = client.optim_step(types.AdamParams(learning_rate=rate))
    gradient.result()
    step.result()
