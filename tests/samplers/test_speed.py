"""Tokens a second of the two samplers and of transformers' own `generate`, on one small model: printed, with -rP."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from emulator.backend import GenerateRequest, Replica
from ftsim.compute.quiet import quiet
from ftsim.compute.sampler.replica import TorchReplica
from ftsim.compute.vllm.replica import VllmReplica
from tests.samplers.conftest import CONTEXT

PROMPT, LENGTH = list(range(300, 316)), 100


def rate(work: Callable[[], int]) -> float:
    """Tokens a second, the best of three."""
    best = 0.0
    for _ in range(3):
        began = time.perf_counter()
        count = work()
        best = max(best, count / (time.perf_counter() - began))
    return best


def sampled(replica: Replica, rows: int) -> int:
    futures = [
        replica.generate(GenerateRequest(PROMPT, max_tokens=LENGTH, seed=seed, ignore_eos=True)) for seed in range(rows)
    ]
    return sum(len(future.result(120).tokens) for future in futures)


def generated(model: Any, rows: int) -> int:
    ids = torch.tensor([PROMPT] * rows)
    length = {"min_new_tokens": LENGTH, "max_new_tokens": LENGTH}
    with quiet(), torch.inference_mode():
        made = model.generate(ids, attention_mask=torch.ones_like(ids), **length)
    return int(made[:, len(PROMPT) :].numel())


@pytest.mark.vllm
@pytest.mark.slow
def test_tokens_a_second(base: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    for rows in (1, 32):
        print(f"{rows} rows, generate of transformers: {rate(partial(generated, model, rows)):,.0f} tokens/s")
    for kind in (TorchReplica, VllmReplica):
        began = time.perf_counter()
        replica = kind(base, max_context_length=CONTEXT)
        print(f"{kind.__name__} opens in {time.perf_counter() - began:.1f} s")
        for rows in (1, 32):
            found = rate(partial(sampled, replica, rows))
            print(f"{rows} rows, {kind.__name__}: {found:,.0f} tokens/s")
            assert found > 1
        replica.close()
