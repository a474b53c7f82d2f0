"""Bringing a saved state into a trainer: the newest of a run that loads, or the one a new run starts from."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ftsim.training.checkpoints.rows import Row
from ftsim.training.checks import parse_checkpoint_ref
from ftsim.training.clients import CheckpointClient
from ftsim.training.errors import CheckpointError

logger = logging.getLogger(__name__)

WAIT_S = 2700.0


@dataclass(frozen=True)
class ResumeInfo:
    """The point from which training goes on: optimizer steps done, raw data rows consumed, and what was loaded."""

    step: int
    data_consumed: int
    source: str

    def told(self, unit: str) -> str:
        """Returns what to tell the person at the terminal; `unit` is what the data rows are called."""
        if self.data_consumed:
            return f"goes on from {self.source} after {self.data_consumed} {unit}"
        return f"starts with the weights of {self.source}"


def wait(future: object) -> Any:
    """Returns the result of what the SDK returned, which is a future or the result itself."""
    return future.result(timeout=WAIT_S) if hasattr(future, "result") else future


def load_newest(client: CheckpointClient, candidates: Sequence[tuple[Row, int]], job_id: str) -> tuple[Row, int]:
    """Load the first of the rows, newest first, that loads, optimizer included; returns it with its cursor."""
    failures = []
    for row, consumed in candidates:
        try:
            wait(client.load_state_with_optimizer(row.path))
        except Exception as error:
            if not _is_refusal(error):
                raise
            logger.warning("checkpoint %s does not load (%s); trying the one before", row.id, error)
            failures.append(f"{row.id}: {error}")
            continue
        return row, consumed
    raise CheckpointError(
        f"no checkpoint of trainer job {job_id} loads; not starting over silently. " + "; ".join(failures)
    )


def load_checkpoint(
    client: CheckpointClient, ref: str, job_id: str, *, restore_optimizer: bool = False, pool: str | None = None
) -> ResumeInfo:
    """Load the weights of "job-id:checkpoint-name", or its whole state, into the trainer of `job_id`, for step 0.

    On the serverless pool of an account, `pool`, it is "run-id:checkpoint-name".
    """
    source_id, name = parse_checkpoint_ref(ref)
    # A job's own fresh checkpoint is not in the durable place that cross-job references look in.
    path = (
        pool_path(pool, ref)
        if pool
        else (client.resolve_checkpoint_path(name, source_job_id=None if source_id == job_id else source_id))
    )
    load = client.load_state_with_optimizer if restore_optimizer else client.load_state
    return _start(ref, lambda: load(path))


def pool_path(account: str, ref: str) -> str:
    """Returns what loads "run-id:checkpoint-name" on the serverless pool."""
    return "/".join((account, *parse_checkpoint_ref(ref)))


def load_adapter(client: CheckpointClient, model: str) -> ResumeInfo:
    """Load a promoted adapter, for a start at step 0."""
    return _start(model, lambda: client.load_adapter(model))


def _start(source: str, load: Callable[[], Any]) -> ResumeInfo:
    try:
        wait(load())
    except Exception as error:
        if not _is_refusal(error):
            raise
        raise CheckpointError(f"{source} cannot be started from: {error}") from error
    return ResumeInfo(0, 0, source)


def _is_refusal(error: Exception) -> bool:
    """Returns True when the trainer refused the checkpoint itself; a lost connection says nothing about it."""
    return isinstance(error, ValueError) or type(error).__name__ == "RequestFailedError"
