"""Trainers of one's own: jobs that a program makes, connects to, and deletes when it is through."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fireworks.training.sdk import TrainerJobConfig, TrainerJobManager
from fireworks.training.sdk.client import FiretitanServiceClient


@contextmanager
def trainers(base: str) -> Iterator[Any]:
    """Yield `connect(job_id, rank)`, which makes a job on a base model, or finds it, and opens a client on it."""
    manager = TrainerJobManager(api_key=os.environ["FIREWORKS_API_KEY"], base_url=os.environ["FIREWORKS_BASE_URL"])
    services: list[Any] = []
    jobs: set[str] = set()

    def connect(job_id: str, rank: int = 0, **facts: Any) -> Any:
        if job_id in jobs:
            endpoint = manager.wait_for_existing(job_id)
        else:
            config = TrainerJobConfig(base_model=base, lora_rank=rank, requested_job_id=job_id, **facts)
            endpoint = manager.create_and_wait(config)
            jobs.add(job_id)
        services.append(FiretitanServiceClient(base_url=endpoint.base_url, api_key=os.environ["FIREWORKS_API_KEY"]))
        return services[-1].create_training_client(base_model=base, lora_rank=rank)

    try:
        yield connect
    finally:
        for service in services:
            service.close()
        for job_id in jobs:
            manager.delete(job_id)
        manager.close()
