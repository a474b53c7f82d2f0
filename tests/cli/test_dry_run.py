"""`ftsim train --dry-run`: what a run would do, and nothing of it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from emulator.light import LightBackend
from emulator.server import Emulator
from ftsim.cli.main import app
from ftsim.compute.backend import TorchBackend
from ftsim.compute.models.tokenizer import write_folder
from ftsim.process import run
from ftsim.training.recipes import sft_loop

DATASET = Path(__file__).parents[2] / "fixtures" / "datasets" / "forty-rows.jsonl"
Told = Callable[..., Result]


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FTSIM_STATE_DIR", str(tmp_path / "state"))
    return lambda *words: CliRunner().invoke(app, ["train", *words, "--dry-run"])


def test_it_tells_steps_saves_rows_and_the_model_and_makes_nothing(told: Told, tmp_path: Path) -> None:
    done = told("sft", f"dataset={DATASET}", "batch_size=4", "epochs=2", "weight_sync.dcp_save_interval=8")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert f"rows: 40, 0 of them dropped; {DATASET.stat().st_size} bytes in {DATASET}" in lines
    assert "steps: 20, of which 0 are done" in lines
    assert "saves: step-8, step-16, step-20" in lines
    assert "weights that can be promoted: step-20-SESSION" in lines
    assert lines[-1].startswith("model: sft-")
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "state" / "server.json").exists()


@pytest.mark.parametrize("recipe", ["dpo", "orpo", "rl", "igpo"])
def test_every_recipe_tells_its_plan(told: Told, recipe: str) -> None:
    done = told(recipe, "max_examples=8")
    assert done.exit_code == 0, done.output
    assert "rows: 8, 0 of them dropped" in done.stdout
    assert "steps: " in done.stdout


def test_it_tells_how_the_emulator_would_be_started(told: Told) -> None:
    done = told("sft", "max_examples=8", "--platform", "april-2026")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[0] == "emulator: started with --platform april-2026"


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--platform", "2031"], 1, "a platform is a date such as 2026-04"),
        (["--platform", "2024-01"], 1, "the oldest platform is 2026-04"),
        (["--model", "qwen3-8b"], 2, "write NAME=FOLDER"),
        (["--model", "qwen3-8b=."], 2, "has no config.json"),
        (["--catalogue", "more.toml"], 1, "more.toml"),
    ],
)
def test_options_of_the_emulator_that_a_run_would_refuse_are_refused(
    told: Told, tmp_path: Path, words: list[str], status: int, message: str
) -> None:
    (tmp_path / "more.toml").write_text("[nothing]\n")
    done = told("sft", "max_examples=8", *words)
    assert (done.exit_code, message in done.stderr) == (status, True), done.stderr


def test_options_are_refused_while_the_emulator_runs(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_LEAVING_S", 0.0)
    with Emulator(LightBackend(), state_dir=tmp_path / "state"):
        assert told("sft", "max_examples=8").exit_code == 0
        refused = told("sft", "max_examples=8", "--platform", "2026-08")
    assert refused.exit_code == 1
    assert "runs already, and --platform 2026-08 would change it" in refused.stderr


def test_all_bad_rows_are_told(told: Told, tmp_path: Path) -> None:
    bad = [{"messages": []}, {"text": "x"}]
    (tmp_path / "rows.jsonl").write_text(DATASET.read_text() + "".join(json.dumps(row) + "\n" for row in bad))
    done = told("sft", "dataset=rows.jsonl")
    assert done.exit_code == 1
    assert "line 41" in done.stderr
    assert "line 42" in done.stderr


def test_it_knows_what_the_run_has_done_and_which_models_there_are(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Emulator(TorchBackend(), state_dir=tmp_path / "state") as emulator:
        for name, value in emulator.env().items():
            monkeypatch.setenv(name, value)
        tokenizer = str(tmp_path / "tokenizer")
        Path(tokenizer).mkdir()
        write_folder(Path(tokenizer), 4096)
        given = {"dataset": str(DATASET), "batch_size": 8, "epochs": 1, "lora_rank": 4, "tokenizer_model": tokenizer}
        base = "accounts/fireworks/models/qwen3-8b"
        sft_loop.main(sft_loop.Config(log_path="run", base_model=base, output_model_id="mine", **given))  # type: ignore[arg-type]
    words = [f"{name}={value}" for name, value in given.items()]
    more = told("sft", *words, "log_path=run", "epochs=2", "output_model_id=other")
    assert "steps: 10, of which 5 are done" in more.stdout
    assert "model: other, which is free" in more.stdout
    taken = told("sft", *words, "log_path=run", "epochs=2", "output_model_id=mine")
    assert (taken.exit_code, "'mine' is taken" in taken.stderr) == (1, True)
    changed = told("sft", *words, "log_path=run", "batch_size=4")
    assert changed.exit_code == 1
    assert "batch_size was 8 and is 4" in changed.stderr
    assert sorted(path.name for path in (tmp_path / "run").glob("*.json")) == ["dataloader.json", "rows.json"]
