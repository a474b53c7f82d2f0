"""A process in which no extra is installed, whatever is."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ftsim.extras import EXTRAS

ROOT = Path(__file__).parents[2]
Bare = Callable[..., "subprocess.CompletedProcess[str]"]
# pytest is there for whoever runs these tests.
ABSENT = tuple(module for modules in EXTRAS.values() for module in modules if module not in ("pytest", "hypothesis"))
HIDES = f"""
from importlib.machinery import PathFinder
find = PathFinder.find_spec
def find_others(cls, name, path=None, target=None):
    return None if name.partition(".")[0] in {ABSENT} else find(name, path, target)
PathFinder.find_spec = classmethod(find_others)
"""


@pytest.fixture(scope="session")
def bare_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables under which Python finds no module of an extra."""
    folder = tmp_path_factory.mktemp("bare")
    (folder / "sitecustomize.py").write_text(HIDES)
    path = os.pathsep.join([str(folder), str(ROOT)])
    return {**os.environ, "PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


@pytest.fixture
def bare(bare_environment: dict[str, str], tmp_path: Path) -> Bare:
    """`bare("-m", "ftsim", ...)` runs Python there, in an empty folder."""

    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        environment = {**bare_environment, "FTSIM_STATE_DIR": str(tmp_path / "state")}
        return subprocess.run(
            [sys.executable, *words], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120
        )

    return run
