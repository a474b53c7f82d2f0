"""Sampling against transformers' own `generate`, and a folder of half a billion weights behind a name."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from emulator.backend import BaseModel, GenerateRequest
from ftsim.tools.bench.measure import Result
from ftsim.tools.bench.stand import Stand

_WAIT = 600


def sample_16(stand: Stand) -> Iterator[Result]:
    """CPU time of sixteen tokens sampled from a replica, against `generate` on the same prompt."""
    yield _sampled("sample_16", stand, rows=1, tokens=16, target=1.3, rounds=30)


def sample_32x64(stand: Stand) -> Iterator[Result]:
    """Tokens for a second of CPU of 32 rows of 64 tokens at once, against `generate` on the same batch."""
    found = _sampled("sample_32x64", stand, rows=32, tokens=64, target=None, rounds=7)
    yield Result(found.name, 1 / found.value, "x", 0.8, more_is_better=True, parts=found.parts)


def zoo_folder_open(stand: Stand) -> Iterator[Result]:
    """CPU time to the first token of a folder of half a billion weights, against transformers alone."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "half-a-billion"
        _half_a_billion(stand.base_folder, folder)
        yield _compared("zoo_folder_open", partial(_first_token, folder), partial(_bare_first_token, folder), 1.2, 3)


def _sampled(name: str, stand: Stand, *, rows: int, tokens: int, target: float | None, rounds: int) -> Result:
    import torch
    from transformers import AutoModelForCausalLM

    from ftsim.compute.backend import TorchBackend

    prompts = [row[:16] for row in (stand.rows * rows)[:rows]]
    model: Any = AutoModelForCausalLM.from_pretrained(stand.base_folder, dtype=torch.float32)
    model.generation_config.eos_token_id = None  # every row to its end, as `ignore_eos` has it
    replica = TorchBackend().open_replica(BaseModel("bench", stand.base_folder), max_context_length=0)
    asked = [
        GenerateRequest(prompt, max_tokens=tokens, ignore_eos=True, seed=row) for row, prompt in enumerate(prompts)
    ]
    ids = torch.tensor(prompts)

    def ours() -> None:
        for future in [replica.generate(one) for one in asked]:
            assert len(future.result(_WAIT).tokens) == tokens

    def bare() -> None:
        made = model.generate(ids, do_sample=True, max_new_tokens=tokens, top_k=0, pad_token_id=0)
        assert made.shape == (rows, 16 + tokens)

    try:
        return _compared(name, ours, bare, target, rounds)
    finally:
        replica.close()


def _compared(
    name: str, ours: Callable[[], object], bare: Callable[[], object], target: float | None, rounds: int
) -> Result:
    """The ratio of the medians of CPU time, all threads of this process, both by turns after one call of each."""
    times = [(_cpu(ours), _cpu(bare)) for _ in range(rounds + 1)][1:]
    mine, theirs = (statistics.median(side) for side in zip(*times, strict=True))
    return Result(name, mine / theirs, "x", target, parts={"emulated_cpu_ms": mine, "bare_cpu_ms": theirs})


def _cpu(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return (time.process_time() - began) * 1e3


def _half_a_billion(like: Path, folder: Path) -> None:
    """Random weights in bfloat16: 24 layers of hidden 896 under 151,936 tokens, with the tokenizer of `like`."""
    import shutil

    import torch
    from transformers import AutoModelForCausalLM, Qwen2Config

    from ftsim.compute.quiet import quiet

    config = Qwen2Config(
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        vocab_size=151_936,
        max_position_embeddings=32768,
        tie_word_embeddings=True,
    )
    shutil.copytree(like, folder)
    with quiet():
        model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        model.save_pretrained(folder)


def _first_token(folder: Path) -> None:
    from ftsim.compute.backend import TorchBackend

    replica = TorchBackend().open_replica(BaseModel("half-a-billion", folder), max_context_length=0)
    try:
        replica.generate(GenerateRequest([1, 2, 3, 4], max_tokens=1, ignore_eos=True)).result(_WAIT)
    finally:
        replica.close()


def _bare_first_token(folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.generate(torch.tensor([[1, 2, 3, 4]]), max_new_tokens=1, pad_token_id=0)
