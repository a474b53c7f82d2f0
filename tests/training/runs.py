"""Recipes in processes of their own, which can be killed like a user's."""

import os
import signal
import time
from collections.abc import Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from emulator.server import Emulator
from tests.forked import CONTEXT


def start(config: Any, env: Mapping[str, str]) -> ForkServerProcess:
    # The fork server has the environment of whichever test started it, an address of its emulator included.
    process = CONTEXT.Process(target=_train, args=(type(config).__module__, config, {**os.environ, **env}))
    process.start()
    return process


def _train(module: str, config: Any, env: dict[str, str]) -> None:
    import importlib

    os.environ.clear()
    os.environ.update(env)
    importlib.import_module(module).main(config)


def run_to_end(config: Any, emulator: Emulator) -> None:
    process = start(config, emulator.env())
    process.join(120)
    assert process.exitcode == 0, f"the recipe ended with {process.exitcode}"


def kill_after(config: Any, emulator: Emulator, steps: int) -> int:
    """Start the recipe and SIGKILL it as soon as it has logged `steps` steps; returns the steps it got to."""
    process = start(config, emulator.env())
    deadline = time.monotonic() + 120
    while logged(config) < steps:
        assert process.is_alive(), f"the recipe ended with {process.exitcode} before it could be killed"
        assert time.monotonic() < deadline, "the recipe does not get on"
        time.sleep(0.002)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    return logged(config)


def logged(config: Any) -> int:
    path = Path(config.log_path) / "metrics.jsonl"
    return path.read_bytes().count(b'"loss"') if path.exists() else 0


def rows(emulator: Emulator, job_id: str) -> dict[str, Path]:
    """The blob folder of every row of a job."""
    platform = emulator.platform
    owner = f"accounts/{emulator.account}/rlorTrainerJobs/{job_id}"
    return {row.id: platform.blobs.path(row.blob) for row in platform.checkpoints.rows(owner)}


def running(emulator: Emulator) -> list[str]:
    """The jobs that still hold accelerators."""
    return [job.id for job in emulator.world.jobs if job.state == "JOB_STATE_RUNNING"]


def files(folder: Path, pattern: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob(pattern))}
