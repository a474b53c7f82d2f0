"""The samplers, and a small model that both of them serve: the attention of vLLM on a CPU begins at heads of 32."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

from emulator.backend import Replica
from ftsim.compute.models.catalogue import base_folder
from ftsim.compute.sampler.replica import TorchReplica
from ftsim.compute.vllm import installed
from ftsim.compute.vllm.replica import VllmReplica

torch.set_num_threads(1)  # the models are tiny and test processes share cores

QWEN = "accounts/fireworks/models/qwen3-8b"
CONTEXT = 128
SIZES: dict[str, Any] = {
    "vocab_size": 2048,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "max_position_embeddings": 4096,
    "initializer_range": 0.2,
    "eos_token_id": 2024,
    "tie_word_embeddings": False,
}
FAMILIES: dict[str, tuple[Any, Any]] = {
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "llama": (LlamaConfig, LlamaForCausalLM),
}
MISSING = f"vLLM is not in {installed.python()}: {installed.PYTHON} names a Python that has it (tox -e vllm)"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever asks vLLM is skipped where it is not installed."""
    for item in items:
        if item.get_closest_marker("vllm") and not installed.version():
            item.add_marker(pytest.mark.skip(reason=MISSING))


class Make(Protocol):
    def __call__(self, folder: Path) -> Replica: ...


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`build("qwen3", seed=1)` writes a folder with random weights, and a tokenizer of ours."""
    words = base_folder(QWEN, tmp_path_factory.mktemp("bases"))

    def written(family: str = "qwen3", seed: int = 0, **sizes: Any) -> Path:
        config, model = FAMILIES[family]
        folder = tmp_path_factory.mktemp(family)
        torch.manual_seed(seed)
        model(config(**{**SIZES, **sizes})).float().save_pretrained(folder)
        for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"):
            shutil.copy(words / name, folder / name)
        return folder

    return written


@pytest.fixture(scope="session")
def base(build: Callable[..., Path]) -> Path:
    return build()


@pytest.fixture(params=["torch", pytest.param("vllm", marks=pytest.mark.vllm)])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """`make(folder)` opens a replica of the sampler that the test is run for."""
    opened: list[Replica] = []

    def replica(folder: Path) -> Replica:
        kind = TorchReplica if request.param == "torch" else VllmReplica
        opened.append(kind(folder, max_context_length=CONTEXT))
        return opened[-1]

    yield replica
    for one in opened:
        one.close()


@pytest.fixture(scope="module", params=["torch", pytest.param("vllm", marks=pytest.mark.vllm)])
def served(request: pytest.FixtureRequest, base: Path) -> Iterator[Replica]:
    """A replica of the base that no test changes: an engine takes a quarter of a minute to start."""
    kind = TorchReplica if request.param == "torch" else VllmReplica
    replica = kind(base, max_context_length=CONTEXT)
    yield replica
    replica.close()
