"""Tiny seeded models, datums as JSON, and a trainer over them."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3MoeConfig

from emulator.backend import BaseModel, LoraSpec, ModelSpec
from ftsim.compute.quiet import quiet
from ftsim.compute.trainer.trainer import TorchTrainer

VOCABULARY = 1024
BASE = BaseModel("accounts/fireworks/models/tiny")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny matrices lose more than they gain from several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Hugging Face folders of a dense model with tied embeddings and of a mixture of experts."""
    common = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "vocab_size": VOCABULARY,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "intermediate_size": 128,
        "max_position_embeddings": 256,
    }
    experts = {"moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2}
    configs = {
        "dense": Qwen3Config(**common, tie_word_embeddings=True),
        "untied": Qwen3Config(**common, tie_word_embeddings=False),
        "moe": Qwen3MoeConfig(**common, **experts, tie_word_embeddings=False),
    }
    root = tmp_path_factory.mktemp("models")
    for name, config in configs.items():
        torch.manual_seed(7)
        with quiet():
            AutoModelForCausalLM.from_config(config).save_pretrained(root / name)
    return {name: root / name for name in configs}


Start = Callable[..., TorchTrainer]


@pytest.fixture
def start(folders: dict[str, Path]) -> Start:
    """`start("dense", rank=4)` gives a trainer with one model called "m"."""

    def make(kind: str = "dense", rank: int = 0, *, base_only: bool = False, **settings: Any) -> TorchTrainer:
        projection = settings.pop("projection", None)
        seed, extra = settings.pop("seed", 0), settings.pop("lora", {})
        lora = LoraSpec(rank, seed=seed, **extra) if rank else None
        trainer = TorchTrainer(lambda base: folders[kind], lora_rank=rank, **settings)
        trainer.create_model(ModelSpec("m", BASE, lora, base_only=base_only, projection_head_dim=projection))
        return trainer

    return make


def tensor(values: Any, dtype: str = "float32") -> dict[str, Any]:
    array = np.asarray(values)
    return {"data": array.reshape(-1).tolist(), "dtype": dtype, "shape": list(array.shape)}


def datum(tokens: list[int], targets: Any, **tensors: Any) -> dict[str, Any]:
    inputs = {name: tensor(value) for name, value in tensors.items()}
    return {
        "model_input": {"chunks": [{"type": "encoded_text", "tokens": tokens}]},
        "loss_fn_inputs": {"target_tokens": tensor(targets, "int64"), **inputs},
    }


def batch(
    loss_fn: str = "cross_entropy",
    lengths: tuple[int, ...] = (5, 9, 3),
    seed: int = 0,
    vocabulary: int = VOCABULARY,
    **config: Any,
) -> dict[str, Any]:
    """Random datums for any loss: advantages of both signs and some zeros, old log-probabilities near the real ones."""
    random = np.random.default_rng(seed)
    data = []
    for length in lengths:
        tokens = random.integers(0, vocabulary, length + 1)
        tensors = {
            "weights": random.normal(size=length),
            "logprobs": -7 + random.normal(size=length),
            "advantages": random.normal(size=length) * (random.random(length) > 0.3),
        }
        names = ("weights",) if loss_fn == "cross_entropy" else ("logprobs", "advantages")
        data.append(datum(tokens[:-1].tolist(), tokens[1:], **{name: tensors[name] for name in names}))
    return {"data": data, "loss_fn": loss_fn, "loss_fn_config": config or None}


def gradients(trainer: TorchTrainer) -> dict[str, torch.Tensor]:
    held = trainer._model("m")
    return {name: value.grad.clone() for name, value in held.trained.items() if value.grad is not None}


def weights(trainer: TorchTrainer) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in trainer._model("m").trained.items()}


def same(left: Mapping[str, torch.Tensor], right: Mapping[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


ADAM = {"learning_rate": 1e-2, "beta1": 0.9, "beta2": 0.95, "eps": 1e-12, "weight_decay": 0.01, "grad_clip_norm": 0.0}
