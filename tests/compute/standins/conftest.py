"""Folders of the shipped architectures, written once, and what transformers and peft make of them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ftsim.compute.checkpoints.source import open_model
from ftsim.compute.models import catalogue
from ftsim.compute.standins.config import ARCHITECTURES

BY_ARCHITECTURE = {
    facts.architecture: facts.name for facts in map(catalogue.facts, catalogue.names()) if not facts.sees
}
Opened = Callable[..., Any]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny matrices lose more than they gain from several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`folder_of("qwen3")` is the folder of a base model with this architecture."""
    assert set(BY_ARCHITECTURE) == set(ARCHITECTURES)
    cache = tmp_path_factory.mktemp("bases")
    return lambda architecture: catalogue.base_folder(BY_ARCHITECTURE[architecture], cache)


@pytest.fixture(scope="session")
def opened(folder_of: Callable[[str], Path]) -> Opened:
    """`opened("qwen3", through_library=True)` opens it in float32 or in the type that is given."""

    def make(architecture: str, dtype: torch.dtype = torch.float32, **how: Any) -> Any:
        return open_model(folder_of(architecture), dtype, **how)

    return make
