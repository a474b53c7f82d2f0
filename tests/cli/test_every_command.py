"""Every command at once: what it prints as data, that nothing is wrapped or padded, that what is wrong is one line."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from emulator.state.entities import Job, Session
from ftsim.cli import main as cli
from tests.conftest import Ftsim

ROOT = Path(__file__).parents[2]
ROWS = ROOT / "fixtures/rows/two_sessions.json"
DATA = ROOT / "fixtures/datasets/forty-rows.jsonl"
DEAD = ["--url", "http://127.0.0.1:9", "--api-key", "k"]
WITHOUT_JSON = {"serve", "trainer-node", "record", "run", "demo"}
"""What these print is another program's, an environment's (`--print-env` has its forms), or a show for people."""


def walk(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name in command.commands:
        found = command.commands[name]
        if getattr(found, "commands", None):
            yield from walk(found, (*words, name))
        else:
            yield (*words, name), found


COMMANDS = dict(walk(typer.main.get_command(cli.app)))


def options(words: tuple[str, ...]) -> set[str]:
    return {name for parameter in COMMANDS[words].params for name in parameter.opts}


def test_every_command_that_prints_prints_json_too() -> None:
    assert {" ".join(words) for words in COMMANDS if "--json" not in options(words)} == WITHOUT_JSON


PRINTED: list[list[str]] = [
    ["jobs"],
    ["job", "j1"],
    ["checkpoints", "j1"],
    ["curves", "j1"],
    ["doctor", "--job", "j1"],
    ["doctor", "Hotload did not complete within 600s"],
    ["explain", "j1:step-10"],
    ["promote", "--job-id", "j1", "--output-model-id", "made"],
    ["models", "list"],
    ["models", "pull", "made", "HERE/pulled"],
    ["journal"],
    ["quirk", "on", "http.fail=503@endpoint=promote,times=1"],
    ["quirk", "list"],
    ["quirk", "list", "--all"],
    ["quirk", "off"],
    ["clock", "5"],
    ["state", "save", "HERE/s.zip"],
    ["state", "diff", "HERE/s.zip"],
    ["state", "restore", "HERE/s.zip"],
    ["preempt", "j1"],
    ["end"],
]
ALONE: list[list[str]] = [
    ["doctor", "--from", str(ROWS)],
    ["explain", "step-20", "--from", str(ROWS)],
    ["data", "check", str(DATA)],
    ["contract", "--list"],
    ["reproduce", "--list"],
]


def test_all_of_them_print_data_and_lines_that_are_neither_wrapped_nor_padded(
    ftsim: Ftsim, on: list[str], job: Job, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    for place in ("data", "lines"):
        (tmp_path / place).mkdir()
        for words in (*PRINTED, *ALONE):
            shown = [word.replace("HERE", str(tmp_path / place)).replace("made", f"made-{place}") for word in words]
            asked = [*shown, *(["--json"] if place == "data" else []), *(on if words in PRINTED else [])]
            if words[:2] == ["data", "check"]:
                asked += ["--recipe", "sft"]
            done = ftsim(*asked)
            assert done.exit_code in (0, 1), (asked, done.stderr)
            assert "Traceback" not in done.stderr
            if place == "data":
                json.loads(done.stdout)
                continue
            assert [line for line in done.stdout.splitlines() if line != line.rstrip()] == [], words
            assert "…" not in done.stdout, words


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_an_option_that_there_is_none_of_is_one_line(refused: Callable[..., str], words: tuple[str, ...]) -> None:
    assert "--no-such-option" in refused(*words, "--no-such-option")


NEEDED = {
    ("explain",): ["x:y"],
    ("promote",): ["--output-model-id", "m"],
    ("models", "pull"): ["m", "folder"],
    ("quirk", "on"): ["http.fail=503"],
    ("state", "save"): ["s.zip"],
    ("state", "diff"): ["s.zip"],
    ("state", "import"): [str(ROWS)],
}


@pytest.mark.parametrize(
    "words", [words for words in COMMANDS if "--url" in options(words) and words != ("state", "restore")], ids=" ".join
)
def test_a_service_that_is_not_there_is_one_line(
    refused: Callable[..., str], words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = refused(*words, *NEEDED.get(words, []), *DEAD)
    assert "http://127.0.0.1:9" in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["state", "restore", "none.zip"], "none.zip"),
        (["state", "open", "none.zip"], "none.zip"),
        (["state", "verify", "--state-dir", "none"], "there is no folder"),
        (["state", "recover", "--state-dir", "none"], "there is no folder"),
        (["state", "gc", "--state-dir", "none"], "there is no folder"),
        (["state", "prune", "--state-dir", "none"], "there is no folder"),
        (["state", "migrate", "--state-dir", "none"], "there is no folder"),
        (["journal", "none.jsonl"], "none.jsonl"),
        (["journal", "--replay", "none.jsonl"], "none.jsonl"),
        (["journal", "--state-dir", "none"], "no emulator has left a journal"),
        (["data", "check", "none.jsonl"], "none.jsonl"),
        (["models", "check", "none"], "none"),
        (["train", "sft", "dataset=none.jsonl", "--dry-run"], "none.jsonl"),
        (["train", "nonsense"], "there is no recipe 'nonsense'"),
        (["reproduce", "Z9"], "no such entry"),
        (["run", "none.py"], "there is no file 'none.py'"),
        (["torture", "none.py"], "none.py"),
        (["serve", "--catalogue", "none.toml", "--light", "--memory", "--port", "0"], "none.toml"),
        (["serve", "--compute", "int8", "--memory", "--port", "0"], "'int8' is no way to compute"),
        (["serve", "--compute", "bfloat16", "--light", "--memory", "--port", "0"], "--light has none"),
        (["quirk", "on", "http.fial=503"], "http.fail"),
        (["quirk", "on", "http.fail"], "http.fail"),
        (["explain", "x:y", "--from", "none.json"], "none.json"),
        (["doctor", "--from", "none.json"], "none.json"),
        (["bench", "--only", "nothing"], "nothing"),
        (["clock", "soon"], "[SECONDS]"),
        (["nonsense"], "nonsense"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_not_there_is_one_line(
    refused: Callable[..., str], words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FTSIM_STATE_DIR", str(tmp_path / "none-yet"))
    assert said in refused(*words)


@pytest.mark.parametrize(
    "program",
    ["raise KeyboardInterrupt\n", "try:\n    raise KeyboardInterrupt\nfinally:\n    raise ValueError\n"],
    ids=["plain", "hidden"],
)
def test_an_interrupted_program_says_how_to_go_on_before_the_shells_prompt(tmp_path: Path, program: str) -> None:
    (tmp_path / "mine.py").write_text(program)
    command = f"{sys.executable} -m ftsim run --light --state-dir state mine.py --epochs 2 2>&1; echo PROMPT"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-2:] == [
        "ftsim: interrupted; to go on: ftsim run --light --state-dir state mine.py --epochs 2",
        "PROMPT",
    ]
