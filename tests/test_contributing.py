"""The pages for those who work on ftsim name files that there are, and adding by these files alone is enough.

An endpoint and a field are added to a copy in tests/http/test_declarations.py, everything else here.
"""

import json
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


RECIPE = '''"""Odds-ratio preference optimisation that weighs the odds twice."""

from dataclasses import dataclass

from ftsim.training.loop import Recipe, Result, run
from ftsim.training.losses import load_pairs
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
DOUBLED = """
def doubled(lp: Tensor, tensors: Mapping[str, Tensor], config: Config, row: Tensor) -> Tensor:
    '''-2 lp.'''
    return -2 * lp


"""
SAID = """
SAID = Quirk("health.said", ANY, "", "The word that health is answered with.", failures=("F16",))
"""
SCENARIO = """
@scenario("A99", "an account is called as it is called")
def an_account_has_a_name(stage: Stage) -> Report:
    '''Say how the account is called.'''
    return Report(sees=[stage.account], exchanges=[], right=["does not mind"])


"""
ADDED = """
import json, sys, tempfile
from pathlib import Path
import httpx, torch
from emulator.light import LightBackend
from emulator.quirks.table import QUIRKS
from emulator.server import Emulator
from ftsim.cli import train
from ftsim.compute.trainer import losses
from ftsim.scenarios import find

lp, row = torch.tensor([-0.5, -1.0]), torch.zeros(2, dtype=torch.long)
found = losses.named("doubled")
print(json.dumps(found.summands(lp, {}, found.configure({}), row).tolist()))
config, main = train.load("mine", {"dataset": "rows.jsonl", "batch_size": 2})
print(json.dumps(["mine" in train.names(), config.odds_weight, config.batch_size, main.__module__]))
with Emulator() as emu:
    before = httpx.get(f"{emu.url}/healthz").json()["status"]
    emu.quirks.set("health.said", "yawning")
    after = httpx.get(f"{emu.url}/healthz").json()["status"]
page = Path("docs/quirks.md").read_text("utf-8")
print(json.dumps([before, after, all(f"`{quirk.name}`" in page for quirk in QUIRKS)]))
print(json.dumps(find("a99").run(LightBackend(Path(tempfile.mkdtemp()))).sees))
"""


@pytest.fixture(scope="module")
def added(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """Answers of a copy with a new loss, recipe, switch and scenario about each, in this order."""
    place = tmp_path_factory.mktemp("added")
    (place / "docs").mkdir()
    page = (ROOT / "docs/quirks.md").read_text("utf-8")
    (place / "docs/quirks.md").write_text(page + "| `health.said` | text | The word that health is answered with. |\n")
    losses = "ftsim/compute/trainer/losses.py"
    asked = "platform_of(request).world.quirks.value(calls.SAID)"
    asks = f"    if said := {asked}:\n        return Reply({{'status': said}})\n"
    additions = (
        (losses, "def _ratio(", DOUBLED),
        (losses, '    "importance_sampling": Loss(', '    "doubled": Loss(doubled),\n'),
        ("ftsim/training/recipes/mine_loop.py", "", RECIPE),
        ("ftsim/cli/train.py", '    "orpo": "preference",\n', '    "mine": "preference",\n'),
        ("emulator/quirks/calls.py", "LOSE_REPLY = Quirk(", SAID),
        ("emulator/http/health.py", "router = Endpoints()", "from emulator.quirks import calls\n"),
        ("emulator/http/health.py", "    store = platform_of(request).world.store\n", asks),
        ("ftsim/scenarios/times.py", '@scenario("A1", ', SCENARIO),
    )
    return [json.loads(line) for line in grown(place, ADDED, *additions)]


def test_a_loss_is_added_in_one_file(added: list[object]) -> None:
    assert added[0] == [1.0, 2.0]


def test_a_recipe_is_added_in_two_files_and_described_in_a_third(added: list[object]) -> None:
    assert added[1] == [True, 0.2, 2, "ftsim.training.recipes.mine_loop"]


def test_a_switch_is_added_in_two_files_and_described_in_a_third(added: list[object]) -> None:
    assert added[2] == ["ok", "yawning", True]


def test_a_scenario_is_added_in_one_file(added: list[object]) -> None:
    assert added[3] == ["local"]


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
def test_a_recipe_that_was_added_trains(tmp_path: Path) -> None:
    row = '    "mine": "preference",\n'
    additions = (
        ("ftsim/training/recipes/mine_loop.py", "", RECIPE),
        ("ftsim/cli/train.py", '    "orpo": "preference",\n', row),
    )
    listed, done = [line for line in grown(tmp_path, NEW_RECIPE, *additions) if line[:1] in "[0"]
    assert "'mine'" in listed
    assert done == "0.2 2 READY"


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
def test_a_loss_that_was_added_is_computed_by_the_trainer(tmp_path: Path) -> None:
    file = "ftsim/compute/trainer/losses.py"
    additions = (
        (file, "def _ratio(", DOUBLED),
        (file, '    "importance_sampling": Loss(', '    "doubled": Loss(doubled),\n'),
    )
    assert grown(tmp_path, NEW_LOSS, *additions) == ["True True"]
