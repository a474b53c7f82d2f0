"""Replicas of the shipped base models, on weights written once per session."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from ftsim.compute.models.catalogue import base_folder
from ftsim.compute.sampler.replica import TorchReplica

torch.set_num_threads(1)  # the models are tiny and test processes share cores

QWEN = "accounts/fireworks/models/qwen3-8b"
FAMILIES = (
    QWEN,
    "accounts/fireworks/models/qwen3-30b-a3b",
    "accounts/fireworks/models/kimi-k2-instruct",
    "accounts/fireworks/models/glm-5",
)


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    cache = tmp_path_factory.mktemp("bases")
    return lambda name: base_folder(name, cache)


@pytest.fixture(scope="session")
def shared(bases: Callable[[str], Path]) -> Iterator[TorchReplica]:
    """A replica of the dense base model that no test changes."""
    replica = TorchReplica(bases(QWEN), max_context_length=512)
    yield replica
    replica.close()


@pytest.fixture
def own(bases: Callable[[str], Path]) -> Iterator[TorchReplica]:
    """A replica of its own for tests that load something."""
    replica = TorchReplica(bases(QWEN), max_context_length=512)
    yield replica
    replica.close()
