"""Two ranks of a group against one process, and what torch makes easy to get wrong there: `ranks.py`, run once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.compute.trainer.conftest import folders
from tests.compute.workers.ranks import CASES

__all__ = ["folders"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results(folders: dict[str, Path]) -> list[dict[str, str]]:
    """For each rank, the error of every case, "" for none."""
    root = next(iter(folders.values())).parent
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    done = subprocess.run(
        [*command, "tests.compute.workers.ranks", str(root)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads((root / f"results-{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_do_what_one_process_does(results: list[dict[str, str]], case: str) -> None:
    assert [found[case] for found in results] == ["", ""]
