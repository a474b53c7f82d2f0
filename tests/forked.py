"""Processes forked from one that has paid for the imports once: a program of its own in a tenth of the time."""

import contextlib
import multiprocessing
import os
import sys
import time
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

CONTEXT: ForkServerContext = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "transformers",
        "ftsim.training.recipes.sft_loop",
        "ftsim.compute.trainer.trainer",
        "peft",
        "fireworks.training.sdk",
        "ftsim.local",
        "emulator.http.app",
        "hypothesis.stateful",
        "respx",
        "pytest",
    ]
)
ALREADY_IMPORTED = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
"""The fork server has imported what pytest would have rewritten for its plugins."""


def run_pytest(folder: Path, arguments: Sequence[str], env: Mapping[str, str] | None = None) -> pytest.RunResult:
    """Run pytest in `folder` in a process of its own; a process in name, too: nothing of it is left in this one."""
    output, errors = folder / "stdout.txt", folder / "stderr.txt"
    started = time.perf_counter()
    words = [*ALREADY_IMPORTED, "-p", "no:schemathesis", *arguments]
    process = CONTEXT.Process(target=_pytest, args=(folder, output, errors, words, dict(env or os.environ)))
    process.start()
    process.join(120)
    alive = process.is_alive()
    if alive:
        process.kill()
        process.join()
    said, wrong = (path.read_text("utf-8").splitlines() for path in (output, errors))
    assert not alive, "\n".join(said)
    return pytest.RunResult(process.exitcode or 0, said, wrong, time.perf_counter() - started)


def _pytest(folder: Path, output: Path, errors: Path, arguments: list[str], env: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    for descriptor, path in ((1, output), (2, errors)):
        with path.open("wb") as file:
            os.dup2(file.fileno(), descriptor)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))
    sys.path[:0] = [entry for entry in env.get("PYTHONPATH", "").split(os.pathsep) if entry]
    sys.argv = ["pytest", *arguments]
    status = pytest.main(arguments)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    sys.exit(int(status))
