"""docs/tutorial.md, block by block: a run that is interrupted, goes on, is promoted and answers."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parent.parent / "docs" / "tutorial.md").read_text("utf-8")
ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.slow


def written(folder: Path) -> None:
    for block in re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```", PAGE, flags=re.S | re.M):
        (folder / block[0]).write_text(block[1])


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return os.environ | {"FTSIM_STATE_DIR": str(tmp_path / "state"), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def test_the_tutorial_ends_with_the_answer_that_it_shows(tmp_path: Path, environment: dict[str, str]) -> None:
    written(tmp_path)
    commands = re.findall(r"^\$ (.+)$", PAGE, flags=re.M)[1:]

    def run(command: str) -> str:
        words = command.split()
        words[:1] = {"python": [sys.executable], "ftsim": [sys.executable, "-m", "ftsim"]}.get(words[0], words[:1])
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    train = commands.index("ftsim run train.py")
    for command in commands[:train]:
        run(command)
    first = subprocess.Popen(
        [sys.executable, "-m", "ftsim", "run", "train.py"],
        cwd=tmp_path,
        env=environment,
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert first.stderr is not None
    for line in first.stderr:
        if "checkpoint step-40 is saved" in line:
            os.killpg(first.pid, signal.SIGINT)
            break
    with first:
        rest = first.stderr.read()
    assert first.returncode != 0
    assert "is ready" not in rest
    told = {command: run(command) for command in commands[train + 1 :]}
    assert "where-things-are is ready" in told["ftsim run train.py"]
    assert "The violin is in the blue case." in told["ftsim run ask.py"]
    assert "The violin is in the blue case." in PAGE
