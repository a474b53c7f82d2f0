"""The frozen model that a run compares its policy with, and the log-probabilities it gives to preference pairs."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ftsim.training.checkpoints.cursors import replace_file
from ftsim.training.clients import Manager, TrainingClient
from ftsim.training.config import BatchConfig, RunConfig
from ftsim.training.data.preferences import Pair, as_data, sides
from ftsim.training.errors import CheckpointError
from ftsim.training.trainers import job_id_for, release, training_client

FILE_NAME = "reference.json"
REFERENCES = ("start", "base")


@contextlib.contextmanager
def base_model(
    manager: Manager, config: RunConfig, client: TrainingClient, max_context_length: int
) -> Iterator[TrainingClient]:
    """Yields a client on the untrained base model, for `forward` only.

    For LoRA it lives on the policy's own trainer, with the adapter left out. A full-parameter policy has replaced the
    base weights there, so a forward-only trainer holds them meanwhile.
    """
    if config.lora_rank:
        yield client.create_base_training_client(config.base_model)
        return
    job_id = _job_id(config)
    with training_client(manager, config, job_id, max_context_length, forward_only=True) as reference:
        yield reference


def release_reference(manager: Manager, config: RunConfig) -> None:
    """Release the forward-only trainer that a killed full-parameter run may have left."""
    if not config.lora_rank:
        release(manager, _job_id(config))


def _job_id(config: RunConfig) -> str:
    return job_id_for("reference", config.log_path)


def add_reference(
    manager: Manager,
    config: BatchConfig,
    client: TrainingClient,
    max_context_length: int,
    train: Sequence[Pair | None],
    held_out: Sequence[Pair],
    *,
    kind: str,
    at_start: bool,
) -> tuple[list[Pair | None], list[Pair]]:
    """Returns the pairs with the reference model's log-probabilities, which are kept on disk: they never change.

    The reference is the policy before its first step (`kind` "start") or the base model ("base").
    `at_start` says that `client` holds that policy. Later, a lost file can only be made again when the policy started
    as the base model; otherwise this raises `CheckpointError`.
    """
    pairs = [pair for pair in (*train, *held_out) if pair is not None]
    path, key = Path(config.log_path) / FILE_NAME, _key(config, kind, pairs)
    started_from = config.init_from_checkpoint or config.warm_start_from_adapter
    found = _read(path, key, len(pairs))
    if found is None:
        if kind == "start" and at_start:
            found = _answers(client, pairs, config.batch_size)
        elif kind == "start" and started_from:
            raise CheckpointError(
                f"{path} is missing or of other data, and the policy is no longer {started_from}, with which it is "
                "compared: restore the file, or use a new log_path"
            )
        else:
            with base_model(manager, config, client, max_context_length) as reference:
                found = _answers(reference, pairs, config.batch_size)
        replace_file(path, json.dumps({"key": key, "logprobs": found}).encode())
    answers = iter(found)
    return (
        [pair and replace(pair, reference=next(answers)) for pair in train],
        [replace(pair, reference=next(answers)) for pair in held_out],
    )


def _answers(client: TrainingClient, pairs: Sequence[Pair], batch_size: int) -> list[list[float]]:
    found: list[float] = []
    for at in range(0, len(pairs), batch_size):
        data = as_data(pairs[at : at + batch_size])
        outputs = client.forward(data, "cross_entropy").result().loss_fn_outputs
        totals = [0.0] * (2 * len(pairs[at : at + batch_size]))
        for side, datum, output in zip(sides(pairs[at : at + batch_size]), data, outputs, strict=True):
            weights = np.asarray(datum.loss_fn_inputs["weights"].data, dtype=np.float64)  # (T,)
            totals[side] += float(weights @ np.asarray(output["logprobs"].data, dtype=np.float64))
        found += totals
    return [found[at : at + 2] for at in range(0, len(found), 2)]


def _key(config: BatchConfig, kind: str, pairs: Sequence[Pair]) -> str:
    """Returns a digest of what the log-probabilities depend on: the model and the tokens."""
    start = (config.init_from_checkpoint, config.warm_start_from_adapter) if kind == "start" else ()
    digest = hashlib.sha256(json.dumps([config.base_model, config.lora_rank, start]).encode())
    for datum in as_data(pairs):
        digest.update(datum.model_input.model_dump_json().encode())
        for name in ("target_tokens", "weights"):
            digest.update(np.asarray(datum.loss_fn_inputs[name].data, dtype=np.float64).tobytes())
    return digest.hexdigest()


def _read(path: Path, key: str, count: int) -> list[list[float]] | None:
    """Returns the log-probabilities kept for this key; None for a file of other data, or a damaged one."""
    try:
        kept = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(kept, dict) or kept.get("key") != key:
        return None
    found = kept.get("logprobs")
    return found if isinstance(found, list) and len(found) == count else None
