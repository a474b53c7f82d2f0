"""Sampling against transformers' own `generate`, and a folder of half a billion weights behind a name."""

import itertools
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


STREAMS: dict[int, tuple[float, float | None]] = {1: (1.3, None), 8: (1.7, None), 32: (1.7, 2.5), 64: (1.5, 2.5)}
"""Rows at once; what their tokens for a second of CPU are to be over `generate`, by default and `batch-variant`."""


def streams(stand: Stand) -> Iterator[Result]:
    """Tokens for a second of CPU of 1 to 64 rows of 64 tokens at once, against `generate` on the same batch.

    By default a small model samples in float64, so that rows leave no trace on each other; `batch-variant` gives that
    up for float32, in which `generate` computes.
    """
    for rows, targets in STREAMS.items():
        for compute, target in zip(("", "batch-variant"), targets, strict=True):
            name = f"streams_{rows}{'_float32' if compute else ''}"
            found = _sampled(name, stand, rows=rows, tokens=64, target=None, rounds=5, compute=compute)
            yield Result(name, 1 / found.value, "x", target, more_is_better=True, parts=found.parts)


LONG_PROMPT = 8_000


def long_prompt_gap(stand: Stand) -> Iterator[Result]:
    """The longest wait between two tokens of a stream while a prompt of 8,000 tokens begins, over the usual wait."""
    from ftsim.compute.backend import TorchBackend

    replica = TorchBackend().open_replica(BaseModel("bench", stand.base_folder), max_context_length=LONG_PROMPT + 200)
    prompt = [number % 2000 for number in range(LONG_PROMPT)]

    def waits(beside: bool) -> list[float]:
        moments: list[float] = []
        asked = GenerateRequest(prompt[:16], max_tokens=150, ignore_eos=True, seed=1)
        future = replica.generate(asked, lambda tokens, _: moments.extend([time.perf_counter()] * len(tokens)))
        if beside:
            replica.generate(GenerateRequest(prompt, max_tokens=1, ignore_eos=True)).result(_WAIT)
        future.result(_WAIT)
        return [(later - earlier) * 1e3 for earlier, later in itertools.pairwise(moments)]

    try:
        waits(beside=False)
        usual = statistics.median(statistics.median(waits(beside=False)) for _ in range(3))
        longest = statistics.median(max(waits(beside=True)) for _ in range(3))
    finally:
        replica.close()
    yield Result("long_prompt_gap", longest / usual, "x", 50, parts={"longest_ms": longest, "usual_ms": usual})


def zoo_folder_open(stand: Stand) -> Iterator[Result]:
    """CPU time to the first token of a folder of half a billion weights, against transformers alone."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "half-a-billion"
        _half_a_billion(stand.base_folder, folder)
        yield _compared("zoo_folder_open", partial(_first_token, folder), partial(_bare_first_token, folder), 1.2, 3)


def _sampled(
    name: str, stand: Stand, *, rows: int, tokens: int, target: float | None, rounds: int, compute: str = ""
) -> Result:
    import torch
    from transformers import AutoModelForCausalLM

    from ftsim.compute.backend import TorchBackend

    prompts = [row[:16] for row in (stand.rows * rows)[:rows]]
    model: Any = AutoModelForCausalLM.from_pretrained(stand.base_folder, dtype=torch.float32)
    model.generation_config.eos_token_id = None  # every row to its end, as `ignore_eos` has it
    backend = TorchBackend(compute=[compute] if compute else ())
    replica = backend.open_replica(BaseModel("bench", stand.base_folder), max_context_length=0)
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
