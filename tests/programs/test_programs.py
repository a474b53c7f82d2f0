"""Programs end with numbers that are right, under `ftsim run` and without a connection that leaves the machine."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ftsim.process.environment import PACKAGE_ROOT

HERE = Path(__file__).parent
MODELS = "accounts/fireworks/models/"


def run(state: Path, program: str, *args: str) -> dict[str, Any]:
    """The last line of a program."""
    command = [sys.executable, "-m", "ftsim", "run", "--state-dir", str(state), str(HERE / program), *args]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(PACKAGE_ROOT)}, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow
@pytest.mark.parametrize(("base", "replay"), [("qwen3-4b", False), ("qwen3-30b-a3b", True)])
def test_reinforcement_learning_with_a_reference_model(tmp_path: Path, base: str, replay: bool) -> None:
    told = run(tmp_path / "state", "rl_reference.py", MODELS + base, "4")
    assert told["replay"] is replay
    assert told["routed"] == (told["samples"] if replay else 0)
    assert told["rewards"][-1] > told["rewards"][0] + 0.2
    assert told["distance"] < 1e-5 if replay else told["distance"] < 1e-4
