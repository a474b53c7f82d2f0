"""README and docs: what they tell people to type is there, and what they show runs."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import typer

from ftsim.cli import main as cli
from ftsim.compute import data
from tests.forked import run_pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
PAGES = {path.name: path.read_text("utf-8") for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))}
LOADED = () if entry_points(group="pytest11", name="ftsim") else ("-p", "ftsim.testing.plugin")
COMMAND = typer.main.get_command(cli.app)


def blocks(text: str, *languages: str) -> list[str]:
    return re.findall(rf"^```(?:{'|'.join(languages)})\n(.*?)^```", text, flags=re.S | re.M)


def typed() -> Iterator[tuple[str, str]]:
    """Every `ftsim ...` line of every page's shell blocks."""
    for page, text in PAGES.items():
        for block in blocks(text, "bash", "sh", "console"):
            for line in block.replace("\\\n", " ").splitlines():
                if line.removeprefix("$ ").startswith("ftsim "):
                    yield page, line.removeprefix("$ ")


def options(command: Any) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.parametrize(("page", "line"), list(typed()))
def test_a_command_that_a_page_shows_is_there(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    command: Any = COMMAND
    known = options(COMMAND)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
        known |= options(command) | {"--help", "-h"}
    assert command is not COMMAND or words[0].startswith("-"), f"{page}: no command {words[0]!r}"
    if command.name in ("run", "train", "torture"):  # what follows is the program's or the recipe's
        return
    given = {word.partition("=")[0] for word in words if word.startswith("--") and word != "--"}
    assert given <= known, f"{page}: {line}"


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    folder = ROOT if page == "README.md" else ROOT / "docs"
    links = re.findall(r"\[[^\]\n]+\]\(([\w./-]+)", PAGES[page])
    assert [link for link in links if "://" not in link and not (folder / link).exists()] == []


def test_the_readme_begins_with_two_commands_and_the_second_is_what_ci_runs() -> None:
    demo, suite = blocks(README, "bash")[:2]
    assert demo.strip().endswith("tox -q -e demo")
    assert suite.strip() == (ROOT / ".ci" / "run").read_text("utf-8").splitlines()[-1]


def test_the_readmes_program_trains_promotes_and_then_changes_nothing(tmp_path: Path) -> None:
    (program,) = [block for block in blocks(README, "python") if block.startswith("# train.py")]
    (tmp_path / "train.py").write_text(f"{program}\nmain(cfg)\n")
    rows = data.path("chat-train").read_text("utf-8").splitlines(keepends=True)
    (tmp_path / "data.jsonl").write_text("".join(rows[:32]))
    environment = os.environ | {"FTSIM_STATE_DIR": str(tmp_path / "state"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "ftsim", "run", "train.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("sft ")]
    ready = "sft model accounts/local/models/qwen3-8b-finetuned is ready"
    assert [told[1], told[-1]] == ["sft checkpoint step-10 is saved", ready]
    assert told.count("sft this run is complete already; nothing is trained") == 1
    assert told.count(ready) == 2
    assert (tmp_path / "my_training" / "loss.svg").stat().st_size > 1000


MY_RECIPE = """
import os

from fireworks.training.sdk import TrainerJobConfig, TrainerJobManager
from fireworks.training.sdk.client import FiretitanServiceClient


def main(steps):
    key, url = os.environ["FIREWORKS_API_KEY"], os.environ["FIREWORKS_BASE_URL"]
    base = "accounts/fireworks/models/qwen3-8b"
    manager = TrainerJobManager(api_key=key, base_url=url)
    endpoint = manager.create_and_wait(TrainerJobConfig(base_model=base, lora_rank=4, requested_job_id="mine"))
    service = FiretitanServiceClient(base_url=endpoint.base_url, api_key=key)
    client = service.create_training_client(base_model=base, lora_rank=4)
    client.save_weights_for_sampler_ext(f"step-{steps}", checkpoint_type="base")
    service.close()
"""


def test_the_readmes_test_passes(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    test = blocks(README, "python")[0]
    pytester.makepyfile(my_recipe=MY_RECIPE, test_mine=f"import my_recipe\n\n\n{test}")
    run_pytest(pytester.path, [*LOADED, "-q", "-p", "no:cacheprovider"]).assert_outcomes(passed=1)


def test_the_rows_that_the_pages_show_are_read(tmp_path: Path) -> None:
    from ftsim.training.data.files import read_rows
    from ftsim.training.data.forms import read_supervised
    from ftsim.training.data.notes import Notes
    from ftsim.training.data.preferences import parse_pair
    from ftsim.training.data.turns import Conversation

    def read(parse: Any) -> list[Any]:
        return [parse(row, where, Notes()) for where, row in read_rows(file)]

    shown = dict(re.findall(r"<!-- ([a-z, ]+) -->\n```json\n(.*?)```", PAGES["recipes.md"], flags=re.S))
    (first,) = blocks(README, "json")
    file = tmp_path / "data.jsonl"
    file.write_text(first + shown["sft"])
    assert [isinstance(row, Conversation) for row in read(read_supervised)] == [True, True, False, True, True, True]
    file.write_text(shown["dpo, orpo"])
    assert [isinstance(chosen, Conversation) for chosen, _ in read(parse_pair)] == [True, True, False, True]


RUN_BY = {
    "README.md": "tests/test_docs.py",
    "cli.md": "tests/cli/test_docs.py",
    "curves.md": "tests/test_docs.py",
    "fast-forward.md": "tests/testing/test_plugin.py",
    "models.md": "tests/cli/test_pulled.py",
    "fork-a-recipe.md": "tests/training/test_fork.py",
    "notebooks.md": "tests/programs/test_notebook.py",
    "testing-kit.md": "tests/testing/test_docs.py",
    "tutorial.md": "tests/test_tutorial.py",
}
"""The tests that run the Python of each page."""


def test_the_python_of_every_page_is_run_by_a_test_and_every_shell_line_is_a_known_command() -> None:
    with_python = {page for page, text in PAGES.items() if blocks(text, "python", "py")}
    assert with_python == set(RUN_BY)
    for page, test in RUN_BY.items():
        assert page.lower() in (ROOT / test).read_text("utf-8").lower(), f"{test} does not read {page}"
    tools = {
        "ftsim",
        "pip",
        "python",
        "python3",
        "pytest",
        "tox",
        "export",
        "unset",
        "docker",
        "curl",
        "rm",
        "tensorboard",
        "vllm",
    }
    unknown = {
        f"{page}: {line}"
        for page, text in PAGES.items()
        for language in ("bash", "console")
        for block in blocks(text, language)
        for line in block.replace("\\\n", " ").splitlines()
        if (line.startswith("$ ") if language == "console" else line.strip() and not line.startswith("#"))
        if re.sub(r"^\$ (\w+=\S+ )?", "", line).split()[0] not in tools
    }
    assert unknown == set()


def test_a_program_tells_figures_of_its_session_as_curves_md_says(tmp_path: Path) -> None:
    from emulator.server import Emulator
    from ftsim.process.environment import in_environment

    (block,) = blocks(PAGES["curves.md"], "python")
    names: dict[str, Any] = {}
    exec(compile(block, "docs/curves.md", "exec"), names)
    with Emulator() as emulator, in_environment(emulator.env()):
        session = emulator.platform.sessions.create(emulator.account).name
        names["log_metrics"](session, 3, reward=0.5, length=12.0)
        (told,) = emulator.world.curves.of(session)
    assert (told.steps, told.columns) == ([3], {"reward": [0.5], "length": [12.0]})
