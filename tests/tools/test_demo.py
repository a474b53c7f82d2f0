"""The demo: its programs, its checker, and the whole of it where a test can wait."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch.distributed.checkpoint import state_dict_saver
from torch.distributed.checkpoint.filesystem import FileSystemWriter

from ftsim.tools.demo import checker, programs, run
from ftsim.tools.demo.processes import DemoError, Program, cursors, last_step
from ftsim.tools.demo.programs import MODES, REFERENCE, ROWS
from tests.conftest import Ftsim


def test_the_programs_are_ordinary_scripts(tmp_path: Path) -> None:
    programs.write(tmp_path)
    for script in (*(mode.script for mode in MODES), REFERENCE):
        text = (tmp_path / script).read_text()
        compile(text, script, "exec")
        assert "ftsim" not in text
    assert len((tmp_path / "data.jsonl").read_text().splitlines()) == ROWS


@pytest.fixture
def blobs(tmp_path: Path) -> tuple[Path, Path]:
    """Two equal folders of each kind, as one pair of Hugging Face folders."""
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        save_file(
            {"a": torch.tensor([1.0, float("nan")]), "b": torch.zeros(2, 2)}, tmp_path / name / "model.safetensors"
        )
    return tmp_path / "one", tmp_path / "other"


def test_equal_blobs_are_equal_even_with_nan(blobs: tuple[Path, Path]) -> None:
    assert checker.compare(*blobs) == {"tensors": 2, "values": 6, "differ": []}


@pytest.mark.parametrize(
    ("changed", "differ"),
    [
        ({"a": torch.tensor([1.0, float("nan")]), "b": torch.tensor([[0.0, 0.0], [0.0, -0.0]])}, ["b"]),
        ({"a": torch.tensor([1.0, float("nan")]), "b": torch.zeros(4)}, ["b"]),
        ({"a": torch.tensor([1.0, float("nan")]), "b": torch.zeros(2, 2).half()}, ["b"]),
        ({"a": torch.tensor([1.0, float("nan")])}, ["b"]),
        ({"a": torch.tensor([1.0, float("nan")]), "b": torch.zeros(2, 2), "c": torch.zeros(1)}, ["c"]),
    ],
)
def test_one_bit_is_a_difference(blobs: tuple[Path, Path], changed: dict[str, torch.Tensor], differ: list[str]) -> None:
    save_file(changed, blobs[1] / "model.safetensors")
    assert checker.compare(*blobs)["differ"] == differ


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_training_states_are_compared_tensor_by_tensor(tmp_path: Path) -> None:
    for name, value in (("one", 1.0), ("other", 2.0)):
        state: dict[str, Any] = {"model.w": torch.full((3,), value), "optimizer.step": torch.zeros(())}
        state_dict_saver.save(state, storage_writer=FileSystemWriter(tmp_path / name), no_dist=True)
    found = checker.compare(tmp_path / "one", tmp_path / "other")
    assert (found["tensors"], found["differ"]) == (2, ["model.w"])


def test_the_checker_imports_nothing_of_ours(tmp_path: Path, blobs: tuple[Path, Path]) -> None:
    request = tmp_path / "checker.json"
    request.write_text(json.dumps({"pairs": {"p": [str(blobs[0]), str(blobs[1])]}, "models": []}))
    done = subprocess.run(
        [sys.executable, "-I", str(run.CHECKER)], input=f"{request}\n", capture_output=True, text=True, check=True
    )
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"pair": "p", "tensors": 2, "values": 6, "differ": []},
        {"imported": []},
    ]


def test_a_program_that_ends_too_early_is_no_killed_program(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-c", "print('over already')"], stdout=output)
    process.wait()
    with pytest.raises(DemoError, match="over already"):
        Program(process, log, tmp_path).reached("run", 1, "step-1")


def asleep(folder: Path) -> Program:
    """A program that would never end, which has logged no step yet."""
    folder.mkdir(exist_ok=True)
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], stdout=output)
    return Program(process, log, folder)


def test_a_program_is_killed_once_it_got_far_enough(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    program = asleep(tmp_path)
    folder.mkdir()
    assert not program.reached("run", 2, "step-1")
    (folder / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert not program.reached("run", 2, "step-1")
    (folder / "dataloader.json").write_text('{"step-1": 8}')
    assert program.reached("run", 2, "step-1")
    assert program.kill("run") == 2
    assert program.killed
    assert (last_step(folder), cursors(folder)) == (2, {"step-1": 8})


def test_a_run_is_killed_in_its_middle_also_while_another_has_not_begun(tmp_path: Path) -> None:
    """Each run is watched by itself: the second of `MODES` is far ahead of the first, which starts late."""
    late, early = MODES
    demo = run.DemoRun(tmp_path)
    killed: list[str] = []

    def far_enough(mode: programs.Mode, step: int) -> None:
        folder = tmp_path / mode.log_path
        folder.mkdir()
        (folder / "dataloader.json").write_text('{"step-10": 80}')
        (folder / "metrics.jsonl").write_text(f'{{"step": {step}}}\n')

    def start_again(demo: run.DemoRun, stack: contextlib.ExitStack, script: str, log: str) -> Program:
        killed.append(script)
        if script == early.script:
            far_enough(late, run.KILL_AT)
        return running[late]

    far_enough(early, run.KILL_AT)
    with contextlib.ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        running = {mode: asleep(tmp_path) for mode in MODES}
        for program in running.values():
            stack.callback(program.stop)
        patch.setattr(run, "_start", start_again)
        patch.setattr("ftsim.tools.demo.processes.PATIENCE_S", 10.0)
        again = run.interrupt(demo, stack, running)
    assert (killed, demo.failed) == ([early.script, late.script], [])
    assert set(again) == set(MODES)


def test_what_a_program_resumed_from_is_read_off_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("sft goes on from step-10 after 80 rows\nsft this run is complete already; nothing is trained\n")
    program = Program(subprocess.Popen(["true"]), log, tmp_path)
    program.finish()
    found = program.resumed()
    assert found is not None
    assert (found.row, found.data_consumed) == ("step-10", 80)
    assert program.was_complete_the_second_time()
    log.write_text("sft 80 rows\n")
    assert program.resumed() is None
    assert not program.was_complete_the_second_time()


def test_a_program_that_fails_stops_the_demo_with_its_last_words(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("it broke\n")
    with pytest.raises(DemoError, match=r"status 1(.|\n)*it broke"):
        Program(subprocess.Popen(["false"]), log, tmp_path).finish()


def test_a_check_that_fails_is_remembered(tmp_path: Path) -> None:
    demo = run.DemoRun(tmp_path)
    demo.check(True, "fine")
    demo.check(False, "not fine")
    assert demo.failed == ["not fine"]


def test_a_demo_never_works_in_a_folder_that_holds_something(ftsim: Ftsim, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    done = ftsim("demo", "--keep", str(tmp_path))
    assert done.exit_code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.slow
def test_the_whole_demo_holds(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ftsim", "demo", "--keep", str(tmp_path / "demo")],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "everything holds" in done.stdout
    assert done.stdout.count("bit-equal") == 6
