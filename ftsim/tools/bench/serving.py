"""Deployments: hot-loading a delta, and many completions at once."""

import asyncio
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from ftsim.tools.bench.measure import Result, milliseconds
from ftsim.tools.bench.stand import Stand
from ftsim.tools.bench.workload import BASE_MODEL

TOKENS = 64
CONCURRENT = 32


def hot_load_delta(stand: Stand) -> Iterator[Result]:
    """A delta into a running deployment through the SDK, against applying its file and reading the tensors."""
    yield _hot_load("hot_load_delta", stand, _read, 1.5)


def hot_load_delta_40mb(stand: Stand) -> Iterator[Result]:
    """As `hot_load_delta`, where bytes weigh more than the requests."""
    yield _hot_load("hot_load_delta_40mb", stand.large, _read, 1.5, rounds=8)


def hot_load_delta_open(stand: Stand) -> Iterator[Result]:
    """The same, against applying its file and opening the result as a model."""
    yield _hot_load("hot_load_delta_open", stand, _open, None)


def _hot_load(
    name: str, stand: Stand, read: Callable[[Path], object], target: float | None, rounds: int = 13
) -> Result:
    job = name.replace("_", "-")
    client = stand.client(job)
    manager = _deployment(stand, job, job)
    saved = client.save_weights_for_sampler_ext("base", checkpoint_type="base").snapshot_name
    _load(manager, job, saved, None)
    base = _blob(stand, job, saved)
    ours, applied, opened = [], [], []
    for turn in range(rounds):
        stand.step(client)
        previous, saved = saved, client.save_weights_for_sampler_ext(f"d-{turn}", checkpoint_type="delta").snapshot_name
        delta, made = _blob(stand, job, saved), stand.folder / f"{job}-{turn}"
        ours.append(milliseconds(partial(_load, manager, job, saved, previous)))
        shutil.copytree(base, made)  # not timed: the codec overwrites
        applied.append(milliseconds(partial(_apply, delta, made)))
        opened.append(milliseconds(partial(read, made)))
        base = made
    emulated = statistics.median(ours[3:])
    bare = statistics.median(one + two for one, two in zip(applied[3:], opened[3:], strict=True))
    parts = {"emulated_ms": emulated, "bare_ms": bare, "apply_alone_ms": statistics.median(applied[3:])}
    return Result(name, emulated / bare, "x", target, parts=parts).with_requests(two_looks(manager, job))


def two_looks(manager: Any, deployment: str) -> float:
    """Median milliseconds of as many requests as a hot-load takes, both asking only where the replicas stand."""

    def look() -> None:
        for _ in range(2):
            manager.hotload_check_status(deployment, BASE_MODEL)

    return statistics.median(milliseconds(look) for _ in range(9))


def _deployment(stand: Stand, name: str, job: str | None) -> Any:
    from fireworks.training.sdk import DeploymentConfig

    manager = stand.clients.deployments
    trainer = stand.clients.job_name(job) if job else None
    manager.create_or_get(
        DeploymentConfig(
            deployment_id=name,
            base_model=BASE_MODEL,
            hot_load_trainer_job=trainer,
            min_replica_count=1,
            max_replica_count=1,
            accelerator_type="NVIDIA_H100_80GB",
        )
    )
    manager.wait_for_ready(name)
    return manager


def _load(manager: Any, deployment: str, identity: str, previous: str | None) -> None:
    metadata = None
    if previous is not None:
        metadata = {
            "previous_snapshot_identity": previous,
            "compression_format": "arc_v2",
            "checksum_format": "alder32",
        }
    done = manager.hotload_and_wait(deployment, BASE_MODEL, identity, incremental_snapshot_metadata=metadata)
    if not done:
        raise RuntimeError(f"{identity} was not hot-loaded: {manager.last_hotload_error_message}")


def _blob(stand: Stand, job: str, identity: str) -> Path:
    """The folder with the files of a row."""
    owner = f"accounts/{stand.server.account_id}/rlorTrainerJobs/{job}"
    answer = httpx.get(
        f"{stand.server.url}/_ftsim/rows", params={"owner": owner}, headers={"X-Api-Key": stand.server.api_key}
    )
    blob: str = next(row["blob"] for row in answer.json()["rows"] if row["name"].endswith(f"/{identity}"))
    return stand.folder / "state" / "blobs" / blob


def _apply(delta: Path, into: Path) -> None:
    from fireworks_delta_compression import delta_decompress_inplace

    file = "model.safetensors"
    delta_decompress_inplace(base_path=str(into / file), diff_path=str(delta / file), compression_format="arc_v2")


def _read(folder: Path) -> None:
    from safetensors.torch import load_file

    load_file(folder / "model.safetensors")


def _open(folder: Path) -> None:
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    AutoModelForCausalLM.from_pretrained(folder)


def concurrent_completions(stand: Stand) -> Iterator[Result]:
    """Tokens per second of 32 completions at once, against one at a time."""
    _deployment(stand, "bench-complete", None)
    prompts = [row[:16] for row in stand.rows * (CONCURRENT // len(stand.rows))]

    async def ask(client: httpx.AsyncClient, prompt: list[int], seed: int) -> int:
        body = {
            "model": f"accounts/{stand.server.account_id}/deployments/bench-complete",
            "prompt": prompt,
            "max_tokens": TOKENS,
            "ignore_eos": True,
            "temperature": 1.0,
            "seed": seed,
        }
        answer = await client.post("/inference/v1/completions", json=body)
        answer.raise_for_status()
        return int(answer.json()["usage"]["completion_tokens"])

    async def rates() -> tuple[float, float]:
        headers = {"Authorization": f"Bearer {stand.server.api_key}"}
        limits = httpx.Limits(max_connections=CONCURRENT)
        async with httpx.AsyncClient(
            base_url=stand.server.url, headers=headers, limits=limits, timeout=120, trust_env=False
        ) as client:
            await ask(client, prompts[0], 0)
            alone, together = [], []
            for turn in range(3):
                began = time.perf_counter()
                tokens = [await ask(client, prompt, turn) for prompt in prompts[:4]]
                alone.append(sum(tokens) / (time.perf_counter() - began))
                began = time.perf_counter()
                tokens = list(await asyncio.gather(*(ask(client, prompt, turn) for prompt in prompts)))
                together.append(sum(tokens) / (time.perf_counter() - began))
            return statistics.median(together), statistics.median(alone)

    many, one = asyncio.run(rates())
    parts = {"together_tokens_per_s": many, "alone_tokens_per_s": one}
    yield Result("concurrent_completions", many / one, "x", 8, more_is_better=True, parts=parts)
