"""The pages for those who work on ftsim name files that there are, and adding by these files alone is enough.

An endpoint and a field are added to a copy in tests/http/test_declarations.py, a loss and a recipe here.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / ".github/CONTRIBUTING.md").read_text("utf-8")


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`((?:emulator|ftsim|tests|docs)/[a-z_/.]+)`", PAGE))))
def test_what_the_page_names_is_there(name: str) -> None:
    assert (ROOT / name).exists()


def test_every_folder_of_tests_mirrors_a_room_or_is_explained() -> None:
    explained = set(re.findall(r"`(\w+)/`", (ROOT / "tests/README.md").read_text("utf-8")))
    rooms = {path.name for package in ("emulator", "ftsim") for path in (ROOT / package).iterdir() if path.is_dir()}
    here = {path.parent.name for path in (ROOT / "tests").glob("*/__init__.py")}
    assert here - rooms - explained == set()


def grown(tmp_path: Path, program: str, *additions: tuple[str, str, str]) -> list[str]:
    """Lines that a program prints on a copy of both packages whose files hold more: (file, mark, text before it)."""
    for package in ("emulator", "ftsim"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file, mark, text in additions:
        path = tmp_path / file
        if not path.exists():
            path.write_text(text, "utf-8")
            continue
        source = path.read_text("utf-8")
        assert source.count(mark) == 1, f"{mark!r} stands {source.count(mark)} times in {file}"
        path.write_text(source.replace(mark, text + mark), "utf-8")
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "FTSIM_STATE_DIR": str(tmp_path / "state")}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


NEW_LOSS = """
from ftsim import Emulator
from fireworks.training.sdk.client import FiretitanServiceClient
from emulator.platform.jobs.spec import JobSpec
base = "accounts/fireworks/models/qwen3-8b"
with Emulator() as emu:
    emu.platform.jobs.create(emu.account, JobSpec(base_model=base), "j1")
    service = FiretitanServiceClient(
        base_url=f"{emu.url}/training/v1/rlorTrainerJobs/{emu.account}/j1", api_key=emu.api_key
    )
    model = service.create_training_client(base_model=base, lora_rank=0)
    chunk = {"type": "encoded_text", "tokens": [1, 2, 3]}
    targets = {"data": [2, 3, 4], "dtype": "int64", "shape": [3]}
    datum = {"model_input": {"chunks": [chunk]}, "loss_fn_inputs": {"target_tokens": targets}}
    trainer = emu.platform.trainers.of(emu.platform.jobs.get(emu.account, "j1"))
    (model_id,) = trainer.models
    sums = [
        trainer.backend.forward_backward(model_id, {"data": [datum], "loss_fn": name})["metrics"]["loss:sum"]
        for name in ("cross_entropy", "doubled")
    ]
    print(sums[0] > 0, abs(sums[1] - 2 * sums[0]) < 1e-6)
    service.close()
"""


@pytest.mark.slow
def test_a_loss_is_added_in_one_file(tmp_path: Path) -> None:
    file = "ftsim/compute/trainer/losses.py"
    function = (
        "def doubled(lp: Tensor, tensors: Mapping[str, Tensor], config: Config, row: Tensor) -> Tensor:\n"
        "    '''-2 lp.'''\n    return -2 * lp\n\n\n"
    )
    additions = (
        (file, "def _ratio(", function),
        (file, '    "importance_sampling": Loss(', '    "doubled": Loss(doubled),\n'),
    )
    assert grown(tmp_path, NEW_LOSS, *additions) == ["True True"]


RECIPE = '''"""Odds-ratio preference optimisation that weighs the odds twice."""

from dataclasses import dataclass

from ftsim.training.loop import Recipe, Result, run
from ftsim.training.preference_losses import load_pairs
from ftsim.training.recipes import orpo_loop


@dataclass
class Config(orpo_loop.Config):
    """As ORPO, with another weight."""

    odds_weight: float = 0.2
    """Weight of the odds-ratio term."""


def main(config: Config) -> Result:
    """Run, or go on with, the training."""
    return run(config, Recipe("mine", load_pairs, orpo_loop.learner, rows="pairs"))
'''
NEW_RECIPE = """
import os
from pathlib import Path

from ftsim.compute.models import hub

os.environ |= hub.build(Path('hub'))
from ftsim.cli import train
from ftsim.compute import data
import os
print(train.names())
rows = data.path("preference-train").read_text("utf-8").splitlines(keepends=True)
open("rows.jsonl", "w").write("".join(rows[:4]))
config, main = train.load("mine", {"dataset": "rows.jsonl", "batch_size": 2, "epochs": 1})
from ftsim import Emulator
with Emulator() as emu:
    os.environ |= {"FIREWORKS_API_KEY": emu.api_key, "FIREWORKS_BASE_URL": emu.url}
    done = main(config)
print(config.odds_weight, done["steps"], done["model"]["state"])
"""


@pytest.mark.slow
def test_a_recipe_is_added_in_two_files_and_described_in_a_third(tmp_path: Path) -> None:
    row = '    "mine": "preference",\n'
    additions = (
        ("ftsim/training/recipes/mine_loop.py", "", RECIPE),
        ("ftsim/cli/train.py", '    "orpo": "preference",\n', row),
    )
    listed, done = [line for line in grown(tmp_path, NEW_RECIPE, *additions) if line[:1] in "[0"]
    assert "'mine'" in listed
    assert done == "0.2 2 READY"
