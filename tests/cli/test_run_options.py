"""`ftsim run` with options of its own: the real command, the real server, the light backend."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = """
import json, os, urllib.request
asked = urllib.request.Request(os.environ["FIREWORKS_BASE_URL"] + "/_ftsim/state",
                               headers={"X-Api-Key": os.environ["FIREWORKS_API_KEY"]})
state = json.load(urllib.request.urlopen(asked))
print(state["seed"], [quirk["name"] for quirk in state["quirks"]], os.environ["HF_HUB_CACHE"], sep="|")
"""


@pytest.fixture
def program(tmp_path: Path) -> str:
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    return str(file)


def run(*words: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FTSIM_")}
    command = [sys.executable, "-m", "ftsim", "run", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_options_say_how_the_emulator_is_and_nothing_is_left_of_it(program: str) -> None:
    done = run("--memory", "--light", "--seed", "5", "--quirk", "rows.visible_after_s=8", program)
    assert done.returncode == 0, done.stderr
    seed, quirks, cache = done.stdout.strip().split("|")
    assert (seed, quirks) == ("5", "['rows.visible_after_s']")
    folder = Path(cache).parents[1]
    deadline = time.monotonic() + 30
    while folder.exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_an_emulator_that_runs_is_not_changed_by_another_program(program: str, tmp_path: Path) -> None:
    waiting = tmp_path / "waiting.py"
    waiting.write_text("print('here', flush=True); input()")
    state = ["--state-dir", str(tmp_path / "state")]
    first = subprocess.Popen(
        [sys.executable, "-m", "ftsim", "run", *state, "--light", str(waiting)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with first:
        assert first.stdout is not None
        assert first.stdout.readline() == "here\n"
        refused = run(*state, "--quirk", "rows.visible_after_s=8", program)
    assert refused.returncode == 2
    assert "runs already" in refused.stderr
    assert "rows.visible_after_s=8" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_the_next_program_may_change_what_nobody_uses_any_more(program: str, tmp_path: Path) -> None:
    state = ["--state-dir", str(tmp_path / "state")]
    assert run(*state, "--light", program).returncode == 0
    done = run(*state, "--light", "--quirk", "rows.visible_after_s=8", program)
    assert done.returncode == 0, done.stderr
    assert "rows.visible_after_s" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--quark", "x.py"], "no such option: --quark (did you mean --quirk?)"),
        (["--lihgt", "x.py"], "no such option: --lihgt (did you mean --light?)"),
        (["--memory", "--quirk", "rows.nonsense=1", "-m", "this"], "rows.nonsense"),
        (["--memory", "no_such_file.py"], "there is no file 'no_such_file.py'"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_nearest(words: list[str], said: str) -> None:
    done = run(*words)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done.stderr
    assert done.stderr.startswith("ftsim: ")
    assert said in done.stderr


ASKING = """
import os, subprocess, sys, urllib.error, urllib.request
for _ in range(int(sys.argv[1])):
    asked = urllib.request.Request(
        os.environ["FIREWORKS_BASE_URL"] + "/inference/v1/completions",
        data=b'{"model": "accounts/fireworks/models/no-such-model", "prompt": [1, 2]}',
        headers={"Authorization": "Bearer " + os.environ["FIREWORKS_API_KEY"], "Content-Type": "application/json"})
    try:
        urllib.request.urlopen(asked)
    except urllib.error.HTTPError:
        pass
own = subprocess.run(["ps", "-o", "args=", "--ppid", str(os.getpid())], capture_output=True, text=True).stdout
print("ending.py" in own, "-m ftsim" in own, flush=True)  # the emulator is its child, the watcher is not
os.kill(os.getpid(), int(sys.argv[2])) if sys.argv[2] != "0" else sys.exit(3)
"""


@pytest.mark.parametrize(("count", "number", "status"), [(3, 0, 3), (3, 9, -9), (0, 0, 3)])
def test_a_program_that_was_refused_says_why_at_the_end_and_ends_as_it_did(
    tmp_path: Path, count: int, number: int, status: int
) -> None:
    file = tmp_path / "asking.py"
    file.write_text(ASKING)
    done = run("--memory", "--light", str(file), str(count), str(number))
    assert (done.returncode, done.stdout) == (status, "False True\n")
    said = [line for line in done.stderr.splitlines() if "watch it at" not in line]
    assert len(said) == (1 if count else 0), done.stderr
    for line in said:
        assert line.startswith("ftsim: 3 of 3 completions were refused: ")
        assert "no-such-model" in line
