"""The start of a new run, looked up before it has a trainer: a wrong one must cost neither job nor log_path."""

import time
from collections.abc import Callable

from ftsim.training.checkpoints.promotion import http_status, poll, read_model
from ftsim.training.checkpoints.rows import Row, read_rows
from ftsim.training.checks import parse_checkpoint_ref
from ftsim.training.clients import Manager
from ftsim.training.config import StartSettings
from ftsim.training.errors import CheckpointError, ConfigError

ADAPTER = "HF_PEFT_ADDON"
LIST_WAIT_S = 10.0


def check_start(manager: Manager, config: StartSettings, *, sleep: Callable[[float], None] = time.sleep) -> None:
    """Refuse an `init_from_checkpoint` or `warm_start_from_adapter` that is not there or does not fit the run.

    Raises `ConfigError`, or `CheckpointError` when the service does not say. A forked recipe's configuration may lack
    either field.
    """
    checkpoint, adapter = (getattr(config, name, None) for name in ("init_from_checkpoint", "warm_start_from_adapter"))
    if checkpoint and not getattr(config, "serverless", False):  # the pool is asked for it when there is a session
        _check_checkpoint(manager, config, checkpoint, sleep)
    elif adapter:
        _check_adapter(manager, config, adapter)


def _check_checkpoint(manager: Manager, config: StartSettings, ref: str, sleep: Callable[[float], None]) -> None:
    job_id, name = parse_checkpoint_ref(ref)
    job = manager.try_get(job_id)
    if job is None:
        raise ConfigError(
            f"init_from_checkpoint {ref!r}: the account has no trainer job {job_id}; look up its short id"
        )
    # A save of a moment ago may not be listed yet.
    poll(lambda: any(row.id == name for row in _rows(manager, ref, job_id)), wait_s=LIST_WAIT_S, sleep=sleep)
    rows = _rows(manager, ref, job_id)
    found = next((row for row in rows if row.id == name), None)
    if found is None or not found.resumable:
        reason = "is not listed" if found is None else f"is {found.type}, which holds no training state"
        listed = ", ".join(row.id for row in rows if row.resumable) or "none"
        raise ConfigError(f"init_from_checkpoint {ref!r}: {name} {reason}; resumable rows of {job_id}: {listed}")
    made_for = job.get("trainingConfig") or {}
    _check_fit(f"init_from_checkpoint {ref!r}", config, made_for.get("baseModel"), made_for.get("loraRank"))
    if found.type.endswith("_LORA") != bool(config.lora_rank):
        wanted = (
            "is of a LoRA run: set lora_rank to its rank"
            if found.type.endswith("_LORA")
            else ("is of a full-parameter run: set lora_rank=0")
        )
        raise ConfigError(f"init_from_checkpoint {ref!r}: {name} {wanted}, or start from another one")


def _check_adapter(manager: Manager, config: StartSettings, name: str) -> None:
    try:
        model = read_model(manager, name)
    except Exception as error:
        raise CheckpointError(f"warm_start_from_adapter {name!r} cannot be looked up: {error}") from error
    if model is None:
        raise ConfigError(
            f"warm_start_from_adapter: there is no model {name!r}; give the full name of a promoted adapter"
        )
    kind, details = model.get("kind"), model.get("peftDetails") or {}
    if kind not in (None, ADAPTER):
        raise ConfigError(
            f"warm_start_from_adapter: {name!r} is a {kind}, not an adapter ({ADAPTER}): give it as base_model instead"
        )
    _check_fit(f"warm_start_from_adapter {name!r}", config, details.get("baseModel"), details.get("r"))


def _check_fit(what: str, config: StartSettings, base_model: str | None, rank: int | None) -> None:
    """Refuse another base model or rank, as far as the service tells them: the weights would not fit."""
    if base_model and base_model != config.base_model:
        raise ConfigError(
            f"{what} is of {base_model}, the configuration says {config.base_model}: set base_model to it"
        )
    if rank is not None and rank != config.lora_rank:
        raise ConfigError(
            f"{what} has LoRA rank {rank}, the configuration says {config.lora_rank}: set lora_rank={rank}"
        )


def _rows(manager: Manager, ref: str, job_id: str) -> list[Row]:
    try:
        return read_rows(manager.list_checkpoints(job_id))
    except Exception as error:
        if http_status(error) == 404:
            return []
        raise CheckpointError(
            f"init_from_checkpoint {ref!r}: the checkpoints of trainer job {job_id} cannot be listed: {error}"
        ) from error
