"""What the scenarios of trainers and of their calls have in common."""

import contextlib
from collections.abc import Iterator
from typing import Any

from ftsim.scenarios.support.stage import BASE, RATE, Stage


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
    """What a log would show of an error."""
    return str(error).splitlines()[0][:200] if str(error) else repr(error)


class Wire:
    """A trainer's calls as bare requests, for what no client of the vendor's says."""

    def __init__(self, stage: Stage, job: str = "job-1") -> None:
        self._http = stage.http
        self._path = f"/training/v1/rlorTrainerJobs/{stage.account}/{job}/api/v1/"
        session = self.post("create_session", {"tags": [], "sdk_version": "0"})["session_id"]
        made = self.post("create_model", {"session_id": session, "model_seq_id": 0, "base_model": BASE})
        self.model_id = str(self.fetch(str(made["request_id"]))["model_id"])

    def post(self, verb: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self._http.post(self._path + verb, json=body)
        return dict(answer.json())

    def submit(self, verb: str, seq: int, **body: Any) -> str:
        """Send a call; the id to fetch its result by."""
        return str(self.post(verb, {"model_id": self.model_id, "seq_id": seq, **body})["request_id"])

    def fetch(self, request_id: str) -> dict[str, Any]:
        return self.post("retrieve_future", {"request_id": request_id})
