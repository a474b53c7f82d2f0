"""A program that mostly waits, under `ftsim run --fast-forward` and without."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ftsim.tools.bench.measure import Result, milliseconds
from ftsim.tools.bench.stand import Stand

SAVES, SECONDS = 10, 15.0
PROGRAM = Path(__file__).with_name("waiting_program.py")


def run(*options: str, saves: int = SAVES, seconds: float = SECONDS) -> dict[str, Any]:
    """Run the program with a light emulator of its own and return what it tells; raises CalledProcessError."""
    command = [sys.executable, "-m", "ftsim", "run", "--light", "--memory", *options, str(PROGRAM)]
    done = subprocess.run([*command, str(saves), str(seconds)], check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def fast_forward(stand: Stand) -> Iterator[Result]:
    """Ten saves, fifteen seconds after each: the share of wall time that is left, starts and imports included."""
    told: list[dict[str, Any]] = []
    ours = milliseconds(lambda: told.append(run("--fast-forward")))
    theirs = milliseconds(lambda: told.append(run()))
    if told[0]["journal"] != told[1]["journal"]:
        raise RuntimeError("the journals differ")
    yield Result("fast_forward", ours / theirs, "x", 0.1, parts={"forward_ms": ours, "waiting_ms": theirs})
