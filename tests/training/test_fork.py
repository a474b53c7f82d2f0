"""The code of docs/fork-a-recipe.md, run as it stands there."""

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from emulator.server import Emulator
from ftsim.compute.models import corpus
from ftsim.process.run import run_program
from ftsim.training.checkpoints.manager import TrainingCheckpoints
from ftsim.training.trainers import connect, job_id_for, training_client
from tests.training.interrupts import counting, interrupt
from tests.training.runs import files, rows

PAGE = Path(__file__).parents[2] / "docs" / "fork-a-recipe.md"
SUBMIT_CUSTOM = "submit_custom(run.client, [(batch, focal) for batch in batches], rate, run.config)"
CODE = dict(re.findall(r"<!-- (\S+) -->\n```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL))


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a program of the page, for which the client side is `training`."""
    for name, module in list(sys.modules.items()):
        if name.startswith("ftsim.training"):
            monkeypatch.setitem(sys.modules, name.removeprefix("ftsim."), module)

    def imported(name: str) -> ModuleType:
        path = tmp_path / name
        path.write_text(CODE[name])
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, path.stem, module)
        spec.loader.exec_module(module)
        return module

    return imported


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "lines.txt"
    path.write_text(
        "".join(f"{name} has a {thing}.\n" for name, thing in zip(corpus.NAMES, corpus.THINGS, strict=False))
    )
    return path


def configure(rote: ModuleType, lines: Path, tokenizer_folder: Path, name: str, **more: Any) -> Any:
    return rote.Config(
        log_path=str(lines.parent / name), dataset=str(lines), tokenizer_model=str(tokenizer_folder), **more
    )


def test_the_page_holds_the_code_it_speaks_of() -> None:
    assert f"`{SUBMIT_CUSTOM}`" in PAGE.read_text("utf-8")
    assert set(CODE) == {"rote.py", "focal.py", "by_hand.py"}
    assert len([line for line in CODE["rote.py"].splitlines() if line.strip()]) <= 50
    assert len([line for line in CODE["by_hand.py"].splitlines() if line.strip()]) <= 60


def losses(recipe: ModuleType, config: Any, capsys: pytest.CaptureFixture[str]) -> list[float]:
    """The losses that a run has told so far: in its log, or on the terminal when it is driven by hand."""
    if recipe.__name__ == "by_hand":
        return [float(number) for number in re.findall(r": ([\d.]+) per token", capsys.readouterr().out)]
    lines = (Path(config.log_path) / "metrics.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["loss"] for line in lines]


@pytest.mark.parametrize("lora_rank", [8, 0])
@pytest.mark.parametrize("program", ["rote.py", "by_hand.py"])
def test_the_recipes_of_the_page_resume_exactly_and_promote(
    emulator: Emulator,
    load: Any,
    lines: Path,
    tokenizer_folder: Path,
    capsys: pytest.CaptureFixture[str],
    program: str,
    lora_rank: int,
) -> None:
    recipe = load(program)
    name = recipe.__name__.replace("_", "-")
    quiet = configure(recipe, lines, tokenizer_folder, "quiet", lora_rank=lora_rank, output_model_id=None)
    with counting() as calls:
        recipe.main(quiet)
    told = losses(recipe, quiet, capsys)
    assert len(told) == 12
    assert told[-1] < told[0]

    killed = configure(recipe, lines, tokenizer_folder, "killed", lora_rank=lora_rank)
    steps = [number for number, name in enumerate(calls.made) if name == "optim_step"]
    interrupt(recipe.main, killed, steps[5], after=True)
    with counting() as again:
        recipe.main(killed)
    assert again.made.count("optim_step") == 8  # both processes took step 5 and 6, from step 4 on
    ends = []
    for config in (quiet, killed):
        found = rows(emulator, job_id_for(name, config.log_path))
        assert {"step-4", "step-8", "step-12"} < set(found)
        (sampler,) = [path for name, path in found.items() if name.startswith("step-12-")]
        cursors = json.loads((Path(config.log_path) / "dataloader.json").read_text())
        ends.append((files(found["step-12"], "*.distcp"), files(sampler, "*.safetensors"), cursors["step-12"]))
    assert ends[0] == ends[1]
    assert ends[0][2] == 48
    assert connect().get(job_id_for(name, killed.log_path))["state"] == "JOB_STATE_CANCELLED"
    assert emulator.journal.of("promote")


def test_the_loss_of_the_page_trains(
    emulator: Emulator,
    load: Any,
    lines: Path,
    tokenizer_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rote, focal = load("rote.py"), load("focal.py")
    changes = {
        "import submit\n": "import submit_custom\n",
        'submit(run.client, batches, "cross_entropy", rate, run.config)': SUBMIT_CUSTOM,
        'sums["loss:sum"] / sums["response_tokens"]': 'sums["focal"]',
    }
    source = CODE["rote.py"]
    for before, after in changes.items():
        assert source.count(before) == 1
        source = source.replace(before, after)
    monkeypatch.setattr(rote, "focal", focal.focal, raising=False)
    exec(compile(source, "rote.py", "exec"), rote.__dict__)
    config = configure(rote, lines, tokenizer_folder, "focal", output_model_id=None)
    rote.main(config)
    seen = losses(rote, config, capsys)
    assert len(seen) == 12
    assert seen[-1] < seen[0]


def test_the_calls_take_a_client_at_once_and_everything_by_name(
    emulator: Emulator, load: Any, lines: Path, tokenizer_folder: Path
) -> None:
    by_hand = load("by_hand.py")
    cfg = configure(by_hand, lines, tokenizer_folder, "by-hand")
    manager, job_id = connect(), job_id_for("by-hand", cfg.log_path)
    with training_client(manager, cfg, job_id, 512) as policy:
        ckpt = TrainingCheckpoints(policy, manager, trainer_id=job_id, log_path=cfg.log_path, lora_rank=cfg.lora_rank)
        assert (
            ckpt.resume(
                init_from_checkpoint=cfg.init_from_checkpoint, warm_start_from_adapter=cfg.warm_start_from_adapter
            )
            is None
        )
        ckpt.save("step-1", resumable=True, promotable=False, data_consumed=4)
        ckpt.save("step-2", resumable=True, promotable=True, data_consumed=8)
        assert ckpt.promote_latest("by-hand", cfg.base_model)["state"] == "READY"
    with training_client(manager, cfg, job_id, 512) as policy:
        again = TrainingCheckpoints(policy, manager, trainer_id=job_id, log_path=cfg.log_path, lora_rank=8)
        found = again.resume()
        assert found is not None
        assert (found.step, found.data_consumed) == (2, 8)


@pytest.mark.slow
@pytest.mark.parametrize("program", ["rote.py", "by_hand.py"])
def test_the_page_s_command_runs_it(tmp_path: Path, lines: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    (tmp_path / program).write_text(CODE[program])
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert run_program([program], state_dir=tmp_path / "state") == 0
