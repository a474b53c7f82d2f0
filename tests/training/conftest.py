from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emulator.server import Emulator
from ftsim.compute.backend import TorchBackend
from ftsim.compute.models.tokenizer import write_folder
from ftsim.training.data.supervised import load_tokenizer


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_folder(folder, 4096)
    return folder


@pytest.fixture(scope="session")
def tokenizer(tokenizer_folder: Path) -> Any:
    return load_tokenizer(str(tokenizer_folder))


@pytest.fixture(scope="module")
def running() -> Iterator[Emulator]:
    with Emulator(TorchBackend(), seed=11) as emulator:
        yield emulator


@pytest.fixture
def emulator(running: Emulator, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """An emulator with real models and nothing in it yet, to which the environment points."""
    running.reset()
    for name, value in running.env().items():
        monkeypatch.setenv(name, value)
    return running
