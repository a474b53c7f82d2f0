"""Trainer jobs: one per `log_path`, found again after a crash, brought up from whatever state it is in."""

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from ftsim.training import sdk
from ftsim.training.checkpoints.starts import check_start
from ftsim.training.clients import Account, Manager, TrainingClient
from ftsim.training.config import JobSettings, RunConfig
from ftsim.training.errors import ConfigError, TrainerError

RESUMABLE = frozenset(f"JOB_STATE_{name}" for name in ("FAILED", "CANCELLED", "PAUSED", "COMPLETED"))
TOMBSTONES = frozenset({"JOB_STATE_DELETED", "JOB_STATE_ARCHIVED"})
LEAVING = frozenset({"JOB_STATE_CANCELLING", "JOB_STATE_DELETING"})
DEFAULT_SEQ_LEN = 4096
POLL_S = 2.0
GRACE_S = 60.0


def connect() -> sdk.TrainerJobManager:
    """Returns the control-plane client for FIREWORKS_BASE_URL and FIREWORKS_API_KEY."""
    return sdk.TrainerJobManager(api_key=sdk.api_key(), base_url=sdk.base_url())


def job_id_for(recipe: str, log_path: str | os.PathLike[str]) -> str:
    """Returns the id of the job that belongs to `log_path`, the same in every process, so that create is idempotent."""
    return f"{recipe.replace('_', '-')}-{hashlib.sha256(os.path.realpath(log_path).encode()).hexdigest()[:24]}"


def context_length(manager: Manager, config: RunConfig) -> int:
    """Returns `max_seq_len`, at most what the shape allows; raises the SDK's error when the shape is unknown."""
    wanted: int | None = config.max_seq_len
    if not config.infra.training_shape_id:
        return wanted or DEFAULT_SEQ_LEN
    profile = manager.resolve_training_profile(config.infra.training_shape_id)
    longest: int = profile.max_supported_context_length or wanted or DEFAULT_SEQ_LEN
    return min(wanted or longest, longest)


def job_config(
    config: JobSettings, job_id: str, max_context_length: int | None, *, forward_only: bool = False
) -> sdk.TrainerJobConfig:
    """Returns the create request of a recipe's trainer, or of the forward-only one that holds its reference model."""
    infra = config.infra
    shape = (forward_only and infra.reference_training_shape_id) or infra.training_shape_id
    return sdk.TrainerJobConfig(
        base_model=config.base_model,
        lora_rank=config.lora_rank,
        learning_rate=config.learning_rate,
        max_context_length=None if shape else max_context_length,
        training_shape_ref=shape,
        region=infra.region,
        custom_image_tag=infra.custom_image_tag,
        accelerator_type=infra.accelerator_type,
        accelerator_count=infra.accelerator_count,
        node_count=infra.node_count,
        display_name=os.path.basename(os.path.realpath(config.log_path))[:63] or None,
        requested_job_id=job_id,
        forward_only=forward_only,
    )


def bring_up(
    manager: Manager,
    wanted: sdk.TrainerJobConfig,
    *,
    timeout_s: float,
    before_create: Callable[[], None] = lambda: None,
    poll_s: float = POLL_S,
    grace_s: float = GRACE_S,
    sleep: Callable[[float], None] = time.sleep,
) -> Any:
    """Returns the endpoint of a running trainer, created or resumed as needed; `TrainerError` when it cannot be had.

    `before_create` is called when there is no such job yet, and raises to keep one from being made.
    A job that has just been resumed, or whose pod has just died, may show its former state for a while, so
    failures are only believed once they have lasted `grace_s`.
    """
    job_id = wanted.requested_job_id
    if manager.try_get(job_id) is None:
        before_create()
        try:
            manager.create(wanted)
        except Exception:
            # The reply may be what got lost, not the job, whose id is ours alone.
            if manager.try_get(job_id) is None:
                raise
    waited = 0.0
    while True:
        job = manager.get(job_id)
        check_job(job, wanted)
        try:
            return _wait_or_resume(manager, str(job_id), job.get("state", ""), timeout_s, poll_s)
        except (RuntimeError, httpx.HTTPStatusError) as error:
            if waited >= grace_s:
                raise TrainerError(f"trainer job {job_id} does not come up: {error}") from error
        sleep(poll_s)
        waited += poll_s


def _wait_or_resume(manager: Manager, job_id: str, state: str, timeout_s: float, poll_s: float) -> Any:
    if state in LEAVING:
        return manager.reconnect_and_wait(job_id, poll_interval_s=poll_s, timeout_s=timeout_s)
    if state in RESUMABLE:
        return manager.resume_and_wait(job_id, poll_interval_s=poll_s, timeout_s=timeout_s)
    return manager.wait_for_existing(job_id, poll_interval_s=poll_s, timeout_s=timeout_s)


def check_job(job: dict[str, Any], wanted: sdk.TrainerJobConfig) -> None:
    """Refuse a deleted job, and one that was made for something else; raises `TrainerError`."""
    job_id, state = wanted.requested_job_id, job.get("state", "")
    if state in TOMBSTONES:
        raise TrainerError(
            f"trainer job {job_id} was deleted, and its id cannot be used again. Its checkpoints can still be promoted "
            f"(promote_checkpoint --job-id {job_id}); to train on, use a new log_path with "
            f"init_from_checkpoint='{job_id}:<checkpoint>'"
        )
    check_purpose(job, wanted.base_model, wanted.lora_rank, job_id)


def check_purpose(job: dict[str, Any], base_model: str, lora_rank: int, job_id: str | None) -> None:
    """Refuse a job that was made for another base model or rank: what it holds is another run's."""
    made_for = job.get("trainingConfig") or {}
    for field, value in (("baseModel", base_model), ("loraRank", lora_rank)):
        if field in made_for and made_for[field] != value:
            raise TrainerError(
                f"trainer job {job_id} has {field} {made_for[field]!r}, the configuration says {value!r}: use a new "
                "log_path for another kind of run"
            )


def cancel(manager: Account, job_id: str, *, max_retries: int = 2) -> None:
    """Release the job's accelerators and keep its checkpoints resumable; a delete would end both for good."""
    from fireworks import Fireworks

    account = manager.account_id
    with Fireworks(
        api_key=manager.api_key, account_id=account, base_url=manager.base_url, max_retries=max_retries
    ) as client:
        client.post(f"/v1/accounts/{account}/rlorTrainerJobs/{job_id}:cancel", body={}, cast_to=object)


def release(manager: Manager, job_id: str) -> None:
    """Cancel the job unless it is stopped already or was never made."""
    job = manager.try_get(job_id)
    if job is not None and job.get("state") not in RESUMABLE | TOMBSTONES | LEAVING:
        cancel(manager, job_id)


def close_finished(manager: Manager, config: JobSettings, job_id: str) -> None:
    """Release the trainer of a run that is complete; `TrainerError` when the configuration is of another run."""
    job = manager.try_get(job_id)
    if job is not None:
        check_purpose(job, config.base_model, config.lora_rank, job_id)
    if config.trainer_job_id is None:
        release(manager, job_id)


@contextlib.contextmanager
def training_client(
    manager: Manager, config: JobSettings, job_id: str, max_context_length: int, *, forward_only: bool = False
) -> Iterator[TrainingClient]:
    """Yields a training client on the job, which is brought up before and released after, also when training fails.

    A job that the configuration names by `trainer_job_id` is not ours to make, nor to release: another run may use it.
    A `forward_only` job refuses all that changes weights. Raises `ConfigError` when the checkpoint or the adapter that
    a new run starts from is not there; no job is made then.
    """
    ours = config.trainer_job_id != job_id

    def check() -> None:
        if not ours:
            raise ConfigError(
                f"trainer_job_id names {job_id!r}, which the account has not: name a job that exists, or leave "
                "trainer_job_id out for one of this run's own"
            )
        if not forward_only:
            check_start(manager, config)

    wanted = job_config(config, job_id, max_context_length, forward_only=forward_only)
    endpoint = bring_up(manager, wanted, timeout_s=config.infra.trainer_timeout_s, before_create=check)
    service = sdk.FiretitanServiceClient(base_url=endpoint.base_url, api_key=manager.api_key)
    try:
        yield service.create_training_client(
            base_model=config.base_model,
            lora_rank=config.lora_rank,
            lora_alpha=config.lora_alpha,
            seed=config.seed,
        )
    except BaseException:
        # What went wrong is worth more than the clean-up, which must neither hide nor delay it.
        with contextlib.suppress(Exception):
            if ours:
                cancel(manager, job_id, max_retries=0)
        with contextlib.suppress(Exception):
            service.close()
        raise
    service.close()
    if ours:
        release(manager, job_id)
