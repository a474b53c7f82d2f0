"""Fixtures and checks of every test."""

import os
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points

import pytest
from typer.testing import CliRunner, Result

from emulator.core import own_warnings

# An installed ftsim brings its pytest plugin along; a checkout on the path has to name it.
if not entry_points(group="pytest11", name="ftsim"):
    pytest_plugins = ["ftsim.testing.plugin"]

own_warnings.obey()  # here a warning is an error in the emulator's threads too

Ftsim = Callable[..., Result]

os.environ.setdefault("TINKER_TELEMETRY", "0")  # closing a client that reports takes 0.1 s; no test is about that

PREFIXES = ("FIREWORKS_", "TINKER_", "FTSIM_", "HF_", "TRANSFORMERS_", "PYTHONPATH", "NO_PROXY", "no_proxy")


@pytest.fixture(autouse=True)
def environment_is_left_as_it_was() -> Iterator[None]:
    """A variable that stays behind makes another test, somewhere, some day, talk to the wrong emulator."""
    before = ours()
    yield
    assert ours() == before


def ours() -> dict[str, str]:
    """The variables that decide whom a program talks to; libraries set others of their own when they are imported."""
    return {name: value for name, value in os.environ.items() if name.startswith(PREFIXES)}


@pytest.fixture
def ftsim(monkeypatch: pytest.MonkeyPatch) -> Ftsim:
    """Call the command; the environment names no service."""
    for name in ("FIREWORKS_BASE_URL", "FIREWORKS_API_KEY", "FTSIM_STATE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")

    from ftsim.cli.main import app

    def call(*words: str) -> Result:
        return CliRunner().invoke(app, list(words), prog_name="ftsim")

    return call
