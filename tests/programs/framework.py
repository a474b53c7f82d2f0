"""A loop as a framework has it, around a model that the program names itself.

A trainer of one's own and a deployment that loads what it saves; a run that is given up goes on from its last state.
Usage: framework.py BASE_MODEL STEPS. Prints one line of JSON.
"""

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fireworks.training.sdk import DeploymentConfig, DeploymentManager, DeploymentSampler, WeightSyncer, types

from tests.programs import loopback
from tests.programs.dedicated import trainers
from tests.programs.steps import datum

ROW = [5, 6, 7, 8, 9, 10]
JOB, DEPLOYMENT = "policy", "rollouts"


@dataclass
class Settings:
    """The run's settings."""

    base_model: str
    steps: int
    learning_rate: float = 0.05
    save_every: int = 2


@dataclass
class Callbacks:
    """Told by the framework while it trains."""

    losses: list[float] = field(default_factory=list)
    saved: list[str] = field(default_factory=list)

    def on_step(self, loss: float) -> None:
        self.losses.append(loss)

    def on_save(self, name: str) -> None:
        self.saved.append(name)


def one_step(client: Any, settings: Settings) -> float:
    done = client.forward_backward([datum(ROW, types)], "cross_entropy")
    client.optim_step(types.AdamParams(learning_rate=settings.learning_rate)).result()
    return float(done.result().metrics["loss:sum"])


def fit(client: Any, settings: Settings, callbacks: Callbacks, first: int = 0) -> None:
    for step in range(first, settings.steps):
        callbacks.on_step(one_step(client, settings))
        if (step + 1) % settings.save_every == 0:
            name = f"step-{step + 1}"
            client.save_state(name).result()
            callbacks.on_save(name)


@contextmanager
def deployed(base: str) -> Iterator[Any]:
    """Yield the manager of a deployment that reads the bucket of the trainer."""
    key, url = os.environ["FIREWORKS_API_KEY"], os.environ["FIREWORKS_BASE_URL"]
    manager = DeploymentManager(api_key=key, base_url=url)
    bucket = f"accounts/{manager.account_id}/rlorTrainerJobs/{JOB}"
    manager.create_or_get(
        DeploymentConfig(DEPLOYMENT, base, hot_load_trainer_job=bucket, min_replica_count=1, accept_shapeless_risk=True)
    )
    manager.wait_for_ready(DEPLOYMENT)
    try:
        yield manager
    finally:
        manager.delete(DEPLOYMENT)
        manager.close()


async def continued(model: str) -> list[int]:
    """The likeliest continuation of the row's first two tokens."""
    key, url = os.environ["FIREWORKS_API_KEY"], os.environ["FIREWORKS_BASE_URL"]
    sampler = DeploymentSampler(inference_url=url, model=model, api_key=key)
    (one,) = await sampler.sample_with_prompt_tokens(ROW[:2], n=1, max_tokens=4, temperature=0, logprobs=True)
    sampler.close()
    await asyncio.sleep(0.01)  # its connections close in a task
    return list(one.full_tokens[2:])


def main(base: str, steps: int) -> None:
    loopback.stay()
    settings, callbacks = Settings(base, steps), Callbacks()
    with trainers(base) as connect:
        client = connect(JOB, max_context_length=64)
        fit(client, settings, callbacks)
        with deployed(base) as manager:
            model = str(manager.get(DEPLOYMENT).inference_model)
            syncer = WeightSyncer(client, manager, DEPLOYMENT, base, warmup_after_hotload=False)
            before = asyncio.run(continued(model))
            syncer.save_and_hotload("end")
            after = asyncio.run(continued(model))
        again = connect(JOB)
        again.load_state_with_optimizer(callbacks.saved[0]).result()
        resumed = Callbacks(list(callbacks.losses[: settings.save_every]))
        fit_on(again, settings, resumed)
    told = {"losses": callbacks.losses, "resumed": resumed.losses, "before": before, "after": after, "row": ROW[2:]}
    print(json.dumps(told))


def fit_on(client: Any, settings: Settings, callbacks: Callbacks) -> None:
    """Go on from a state that was loaded, without saving over what is there."""
    while len(callbacks.losses) < settings.steps:
        callbacks.on_step(one_step(client, settings))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
