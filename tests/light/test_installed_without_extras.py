"""The distribution without any extra: what works, and one sentence for what does not."""

import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from ftsim.extras import EXTRAS
from tests.light.conftest import Bare

KEY = {"X-Api-Key": "fw-ftsim-local"}


@pytest.mark.parametrize("options", [["--memory"], []], ids=["in memory", "in a folder"])
def test_serve_light_answers_and_says_that_it_is_no_model(
    bare_environment: dict[str, str], tmp_path: Path, options: list[str]
) -> None:
    words = ["-W", "error", "-m", "ftsim", "serve", "--light", "--port", "0", "--state-dir", str(tmp_path / "s")]
    words += ["--api-key", KEY["X-Api-Key"]]
    process = subprocess.Popen([sys.executable, *words, *options], env=bare_environment, stdout=-1, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split(" on ")[1].split()[0]
        answer = httpx.post(
            f"{url}/inference/v1/completions",
            json={"model": "accounts/fireworks/models/qwen3-8b", "prompt": [3, 4], "max_tokens": 5, "seed": 1},
            headers=KEY,
            trust_env=False,
        )
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
    assert process.returncode == 0
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-ftsim-backend"] == "light"
    assert len(answer.json()["choices"][0]["text"]) == 5


def test_the_commands_that_look_at_an_emulator_work(bare: Bare) -> None:
    helped = bare("-W", "error", "-m", "ftsim", "--help")
    assert (helped.returncode, helped.stderr) == (0, "")
    for command in ("serve", "checkpoints", "explain", "promote", "models", "journal", "state"):
        shown = bare("-m", "ftsim", command, "--help")
        assert (shown.returncode, shown.stderr) == (0, ""), command


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (["serve"], "train"),
        (["train", "sft"], "train"),
        (["demo"], "train"),
        (["bench"], "train"),
        (["reproduce", "D6"], "train"),
        (["contract"], "train"),
        (["run", "-m", "this"], "train"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_a_missing_extra_is_one_sentence(bare: Bare, words: list[str], extra: str) -> None:
    refused = bare("-m", "ftsim", *words)
    assert refused.returncode != 0
    assert len(refused.stderr.strip().splitlines()) == 1, refused.stderr
    assert f"pip install 'ftsim-emulator[{extra}]'" in refused.stderr


def test_the_default_emulator_names_what_it_lacks_and_what_there_is(bare: Bare) -> None:
    program = """
import ftsim, sys
try:
    ftsim.Emulator()
except ImportError as error:
    print(type(error).__name__, error)
with ftsim.Emulator(backend="light") as emu:
    assert isinstance(emu, ftsim.Emulator)
    print(emu.url)
"""
    done = bare("-W", "error", "-c", program)
    told = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert told[0].startswith("MissingExtraError real models need the extra [train]: pip install")
    assert 'Emulator(backend="light")' in told[0]
    assert told[1].startswith("http://127.0.0.1:")


def test_the_fixtures_work_with_the_light_backend_alone(bare: Bare, tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        """
import urllib.request, os, sys
import pytest

@pytest.mark.backend("light")
def test_light(fireworks_env, fireworks_emulator):
    assert sys.modules.get("torch") is None
    asked = urllib.request.Request(os.environ["FIREWORKS_BASE_URL"] + "/v1/accounts",
                                   headers={"X-Api-Key": fireworks_env["FIREWORKS_API_KEY"]})
    with urllib.request.urlopen(asked) as answer:
        assert answer.headers["x-ftsim-backend"] == "light"

def test_real(fireworks_emulator):
    raise AssertionError("not reached")

@pytest.mark.backend("jax")
def test_misspelt(fireworks_emulator):
    raise AssertionError("not reached")
"""
    )
    ran = bare("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "ftsim.testing.plugin", "test_mine.py")
    assert "1 passed, 2 errors" in ran.stdout, ran.stdout
    assert "real models need the extra [train]: pip install 'ftsim-emulator[train]'" in ran.stdout
    assert "backend takes one of 'torch', 'light'; got ('jax',)" in ran.stdout
    assert "Traceback" not in ran.stdout


def test_what_pyproject_puts_into_an_extra_is_what_the_table_names() -> None:
    import re
    import tomllib

    declared = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    for extra, modules in EXTRAS.items():
        wanted = declared["optional-dependencies"][extra]
        names = {re.split(r"[\[><=]", line)[0].replace("-", "_") for line in wanted}
        assert {{"fireworks": "fireworks_ai", "PIL": "pillow"}.get(module, module) for module in modules} == names
    base = {re.split(r"[\[><=]", line)[0] for line in declared["dependencies"]}
    assert not base & {"torch", "numpy", "transformers", "fireworks-ai", "pytest", "hypothesis", "matplotlib"}
