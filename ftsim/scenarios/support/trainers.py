"""Helpers of the scenarios of trainers and of their calls."""

import contextlib
from collections.abc import Iterator
from typing import Any

from ftsim.scenarios.support.stage import Stage
from ftsim.testing.clients import RATE


@contextlib.contextmanager
def patient(stage: Stage) -> Iterator[None]:
    """Nothing of the vendor's that waits for jobs or for results really sleeps in here."""
    from fireworks.training.sdk import errors, trainer
    from fireworks.training.sdk._core import _base_client
    from fireworks.training.sdk._core.lib import api_future_impl, internal_client_holder

    with stage.fake_time(errors, trainer, _base_client, api_future_impl, internal_client_holder):
        yield


def preempt(stage: Stage, job: str = "job-1") -> None:
    """Take a job's machine away."""
    stage.emulator.platform.jobs.preempt(stage.account, job)


def state(stage: Stage, job: str = "job-1") -> str:
    """The state of a job as it is, not as a client is shown it."""
    return str(stage.emulator.platform.jobs.get(stage.account, job).state)


def reconnect(stage: Stage, job: str = "job-1", **options: Any) -> Any:
    """The vendor's `reconnect_and_wait`."""
    with patient(stage):
        return stage.manager.reconnect_and_wait(job, **options)


def bring_up(stage: Stage, job: str = "job-1", rank: int = 0) -> Any:
    """As our own recipes bring a trainer up, from whatever state it is in."""
    from ftsim.training.trainers import bring_up as ours

    with patient(stage):
        return ours(stage.manager, stage.job_config(job, rank), timeout_s=900, sleep=stage.time.sleep)


def adam() -> Any:
    from ftsim.training.sdk import types

    return types.AdamParams(learning_rate=RATE)


def steps(stage: Stage, client: Any) -> int:
    """Optimizer steps that the model behind a client has really taken."""
    return int(stage.live(client).step)


def first_line(error: object) -> str:
    """The first line of an error, as a log would show it."""
    return str(error).splitlines()[0][:200] if str(error) else repr(error)
