"""The frozen model that a run compares its policy with, and the log-probabilities it gives to preference pairs."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ftsim.training.checkpoints.cursors import replace_file
from ftsim.training.data.preferences import Pair, as_data
from ftsim.training.errors import CheckpointError
from ftsim.training.trainers import job_id_for, release, training_client

FILE_NAME = "reference.json"
REFERENCES = ("start", "base")


@contextlib.contextmanager
def base_model(manager: Any, config: Any, client: Any, max_context_length: int) -> Iterator[Any]:
    """A client on the untrained base model, for `forward` only.

    For LoRA it lives on the policy's own trainer (WIRE 2.5, base_only). A full-parameter policy has replaced the base
    weights there, so a forward-only trainer holds them meanwhile.
    """
    if config.lora_rank:
        yield client.create_base_training_client(config.base_model)
        return
    job_id = _job_id(config)
    with training_client(manager, config, job_id, max_context_length, forward_only=True) as reference:
        yield reference


def release_reference(manager: Any, config: Any) -> None:
    """Release the forward-only trainer that a killed full-parameter run may have left."""
    if not config.lora_rank:
        release(manager, _job_id(config))


def _job_id(config: Any) -> str:
    return job_id_for("reference", config.log_path)


def add_reference(
    manager: Any,
    config: Any,
    client: Any,
    max_context_length: int,
    train: Sequence[Pair | None],
    held_out: Sequence[Pair],
    *,
    at_start: bool,
) -> tuple[list[Pair | None], list[Pair]]:
    """The pairs with the reference model's log-probabilities, which are the same throughout a run and kept on disk.

    The reference is the policy before its first step (`config.reference` "start") or the base model ("base").
    `at_start` says that `client` holds that policy. Later, a lost file can only be made again when the policy started
    as the base model; otherwise this raises `CheckpointError`.
    """
    pairs = [pair for pair in (*train, *held_out) if pair is not None]
    path, key = Path(config.log_path) / FILE_NAME, _key(config, pairs)
    started_from = config.init_from_checkpoint or config.warm_start_from_adapter
    found = _read(path, key, len(pairs))
    if found is None:
        if config.reference == "start" and at_start:
            found = _answers(client, pairs, config.batch_size)
        elif config.reference == "start" and started_from:
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


def _answers(client: Any, pairs: Sequence[Pair], batch_size: int) -> list[list[float]]:
    found: list[float] = []
    for at in range(0, len(pairs), batch_size):
        data = as_data(pairs[at : at + batch_size])
        outputs = client.forward(data, "cross_entropy").result().loss_fn_outputs
        for datum, output in zip(data, outputs, strict=True):
            weights = np.asarray(datum.loss_fn_inputs["weights"].data, dtype=np.float64)  # (T,)
            found.append(float(weights @ np.asarray(output["logprobs"].data, dtype=np.float64)))
    return [found[at : at + 2] for at in range(0, len(found), 2)]


def _key(config: Any, pairs: Sequence[Pair]) -> str:
    """What the log-probabilities depend on: the model and the tokens."""
    start = (config.init_from_checkpoint, config.warm_start_from_adapter) if config.reference == "start" else ()
    digest = hashlib.sha256(json.dumps([config.base_model, config.lora_rank, start]).encode())
    for datum in as_data(pairs):
        digest.update(datum.model_input.model_dump_json().encode())
        for name in ("target_tokens", "weights"):
            digest.update(np.asarray(datum.loss_fn_inputs[name].data, dtype=np.float64).tobytes())
    return digest.hexdigest()


def _read(path: Path, key: str, count: int) -> list[list[float]] | None:
    """What is kept for this key; a file of other data, or a damaged one, is as good as none."""
    try:
        kept = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(kept, dict) or kept.get("key") != key:
        return None
    found = kept.get("logprobs")
    return found if isinstance(found, list) and len(found) == count else None
