"""Whatever the person at the keyboard can mend is said in one line, by the entry point for every command."""

from collections.abc import Callable
from pathlib import Path

import pytest

from emulator.core.errors import FailedPrecondition
from emulator.state.entities import Job
from ftsim.cli import main as cli
from tests.conftest import Ftsim
from tests.doubles import BASE

Refused = Callable[..., str]
DEAD = "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["state", "save", "s.zip", "--url", DEAD], f"{DEAD}/ does not answer"),
        (["checkpoints", "j1", "--url", DEAD], f"{DEAD} does not answer"),
        (["checkpoints", "j1", "--url", "http://127.0.0.1:99999"], "does not answer"),
        (["contract", "--base-url", DEAD], f"{DEAD} does not answer"),
        (["contract", "--base-url", "http://127.0.0.1:99999"], "does not answer"),
    ],
)
def test_a_service_that_is_not_there(refused: Refused, words: list[str], said: str) -> None:
    assert said in refused(*words, "--api-key", "key1")


def test_a_folder_that_cannot_be_made(refused: Refused, ftsim: Ftsim, on: list[str], job: Job, tmp_path: Path) -> None:
    words = ["--job-id", "j1", "--output-model-id", "made", "--base-model", BASE]
    assert ftsim("promote", *words, *on).exit_code == 0
    (tmp_path / "file").write_text("no folder")
    told = refused("models", "pull", "made", str(tmp_path / "file" / "folder"), *on)
    assert str(tmp_path / "file") in told
    assert "Not a directory" in told


def test_a_file_that_cannot_be_written(refused: Refused, on: list[str], tmp_path: Path) -> None:
    target = tmp_path / "nowhere" / "run.jsonl"
    assert refused("journal", "--save", str(target), *on) == f"ftsim: {target}: No such file or directory"


def test_a_fault_of_our_own_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (RuntimeError("ours"), OSError("ours too")):

        def broken(error: Exception = error, **_: object) -> None:
            raise error

        monkeypatch.setattr(cli, "app", broken)
        with pytest.raises(type(error)):
            cli.main()


def test_a_refusal_of_the_platform(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(standalone_mode: bool) -> None:
        raise FailedPrecondition("not now")

    monkeypatch.setattr(cli, "app", broken)
    assert refused() == "ftsim: not now"
