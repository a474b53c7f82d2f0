"""A user's typed file runs, and passes mypy --strict against what the packages declare."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import emulator
import ftsim
from emulator.core import system
from ftsim.cli import main as cli
from tests.light import users_file

ROOT = Path(__file__).parents[2]


def test_a_typed_file_of_a_user_runs(tmp_path: Path) -> None:
    assert users_file.main(tmp_path / "state") == ("accounts/local", [])
    assert isinstance(ftsim.Emulator, type)


def test_both_packages_say_that_they_are_typed() -> None:
    assert (ROOT / "emulator/py.typed").is_file()
    assert (ROOT / "ftsim/py.typed").is_file()


@pytest.mark.slow
def test_a_typed_file_of_a_user_passes_mypy_strict(tmp_path: Path) -> None:
    """Outside the checkout, so that no setting of ours helps; `wrong.py` shows that types are really seen."""
    pytest.importorskip("mypy")
    shutil.copy(users_file.__file__, tmp_path / "mine.py")
    (tmp_path / "wrong.py").write_text(
        "import ftsim\n\n\ndef port(emulator: ftsim.Emulator) -> str:\n    return emulator.port\n\n\n"
        'ftsim.Emulator(backend="jax")\n'
    )
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "mine.py", "wrong.py"],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    errors = [line for line in checked.stdout.splitlines() if ": error: " in line]
    assert [line.split(":")[:2] for line in errors] == [["wrong.py", "5"], ["wrong.py", "8"]], checked.stdout


def test_the_version_is_known_and_windows_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ftsim.__version__[0].isdigit()
    monkeypatch.setattr(system, "SYSTEM", "win32")
    for package in (ftsim, emulator):
        with pytest.raises(ImportError, match="Linux and macOS; on Windows install and run it inside WSL"):
            getattr(package, "Emulator")  # noqa: B009
    with pytest.raises(SystemExit):
        cli.main()
    assert capsys.readouterr().err == f"ftsim: {system.REFUSAL}\n"
