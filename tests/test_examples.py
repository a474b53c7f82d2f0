"""fixtures/examples: every program that users copy is run as its page says."""

import os
import re
import shutil
import signal
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import yaml

from tests.forked import run_pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "fixtures/examples"
LOADED = () if entry_points(group="pytest11", name="ftsim") else ("-p", "ftsim.testing.plugin")


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A copy of the examples, as a user has one."""
    return Path(shutil.copytree(EXAMPLES, tmp_path / "examples"))


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return os.environ | {"FTSIM_STATE_DIR": str(tmp_path / "state"), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def test_the_page_names_every_example() -> None:
    named = set(re.findall(r"^\| (.+?) \|", (EXAMPLES / "README.md").read_text("utf-8"), flags=re.M)[1:])
    named = {name for cell in named for name in re.findall(r"`([\w.]+)`", cell)}
    assert {path.name for path in EXAMPLES.iterdir() if path.is_file()} == {"README.md", "my_manager.py", *named}


@pytest.mark.parametrize("name", ["github.yml", "gitlab.yml"])
def test_the_pipelines_are_those_of_the_page(name: str) -> None:
    text = (EXAMPLES / name).read_text("utf-8")
    assert f"```yaml\n{text}```" in (ROOT / "docs/ci.md").read_text("utf-8")
    assert "pytest --ftsim-bundle bundles" in str(yaml.safe_load(text))


def test_a_client_meets_a_bad_day(here: Path, environment: dict[str, str]) -> None:
    done = run_pytest(here, [*LOADED, "-q", "-p", "no:cacheprovider", "test_bad_day.py"], environment)
    done.assert_outcomes(passed=2)


@pytest.mark.slow
def test_a_manager_is_judged(here: Path, environment: dict[str, str]) -> None:
    done = run_pytest(here, [*LOADED, "-q", "-p", "no:cacheprovider", "test_my_manager.py"], environment)
    done.assert_outcomes(passed=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sdk_alone.py", r"loss [\d.]+ -> [\d.]+, 2 rows, accounts/local/models/by-the-sdk-alone is READY"),
        ("dpo.py", r"4 steps: accounts/local/models/pairs"),
        ("rl_reward.py", r"\[[-\d., ]+\] accounts/local/models/colours"),
    ],
)
def test_a_program_runs_to_its_end(here: Path, environment: dict[str, str], name: str, said: str) -> None:
    command = [sys.executable, "-m", "ftsim", "run", name]
    done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    assert re.search(said, done.stdout), done.stdout


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on(here: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "ftsim", "run", "sft_resume.py"]
    with subprocess.Popen(
        command, cwd=here, env=environment, text=True, stderr=subprocess.PIPE, start_new_session=True
    ) as first:
        assert first.stderr is not None
        for line in first.stderr:
            if "checkpoint step-8 is saved" in line:
                os.killpg(first.pid, signal.SIGKILL)
                break
    done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    assert re.search(r"16 steps, went on from .*step-8: accounts/local/models/places", done.stdout), done.stdout
