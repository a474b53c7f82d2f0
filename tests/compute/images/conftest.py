"""The model that sees, its folder written once, opened by transformers and by us."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ftsim.compute.checkpoints.source import open_model, small_files
from ftsim.compute.images.sight import Sight
from ftsim.compute.models.catalogue import base_folder
from tests.squares import SEES

torch.set_num_threads(1)  # the models are tiny and test processes share cores


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base_folder(SEES, tmp_path_factory.mktemp("bases"))


@pytest.fixture(scope="session")
def sight(folder: Path) -> Sight:
    found = Sight.of(small_files(folder))
    assert found is not None
    return found


@pytest.fixture(scope="session")
def library(folder: Path) -> Any:
    """The model of transformers, which finds places and positions by itself."""
    return open_model(folder, torch.float64)
