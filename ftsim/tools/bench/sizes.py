"""Growth with the size of a model: the loss over a real vocabulary of 151,936 tokens, and saves, in time and memory."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from emulator.backend import BaseModel, ModelSpec
from ftsim.tools.bench.measure import Result, ratio
from ftsim.tools.bench.stand import Stand

VOCABULARY = 151_936
HIDDEN = 64
_MB = 2**20


def loss_head(stand: Stand) -> Iterator[Result]:
    """A forward_backward of 512 tokens in blocks of positions, against all scores at once and PyTorch's own gradient.

    On one thread, as a trainer computes unless it is told otherwise.
    """
    import torch

    from ftsim.compute.trainer import head

    trainer, asked = wide_trainer(), batch(1, 512)
    limits, threads = (head.WHOLE_BYTES, head.REUSED_BYTES), torch.get_num_threads()

    def at_once() -> None:
        head.WHOLE_BYTES = head.REUSED_BYTES = 1 << 40
        trainer.forward_backward("m", asked)
        head.WHOLE_BYTES, head.REUSED_BYTES = limits

    torch.set_num_threads(1)
    try:
        yield ratio("loss_head", lambda: trainer.forward_backward("m", asked), at_once, 1.15, rounds=5)
    finally:
        torch.set_num_threads(threads)


def loss_head_memory(stand: Stand) -> Iterator[Result]:
    """Peak of 8,192 tokens in one request over weights, gradients and moments, in a process of its own."""
    found = in_a_process(__name__, "head")
    yield Result("loss_head_memory", found["peak_mb"] - found["state_mb"], "MB", 1500, parts=found)


def save_memory(stand: Stand) -> Iterator[Result]:
    """Peak of memory in a save of a training state and in one for sampling, over what the process held before."""
    found = in_a_process(__name__, "saves")
    yield Result("save_memory", max(found["state"], found["base"]), "x", 1.1, parts=found)


def in_a_process(module: str, *words: str) -> dict[str, float]:
    """The figures that a module prints as JSON, last of all, when it is run with these words."""
    command = [sys.executable, "-m", module, *words]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def wide_trainer(vocabulary: int = VOCABULARY) -> Any:
    """A trainer with one model "m": two layers of hidden 64 under a vocabulary, output layer untied."""
    from ftsim.compute.trainer.trainer import TorchTrainer

    with tempfile.TemporaryDirectory() as folder:
        wide_folder(Path(folder), HIDDEN, vocabulary)
        trainer = TorchTrainer(lambda base: Path(folder))
        trainer.create_model(ModelSpec("m", BaseModel("accounts/fireworks/models/wide"), None))
    return trainer


def wide_folder(folder: Path, hidden: int, vocabulary: int = VOCABULARY) -> None:
    """Write two layers of this width under a vocabulary, weights drawn at random."""
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
    random_folder(
        folder, hidden_size=hidden, num_hidden_layers=2, vocab_size=vocabulary, intermediate_size=128, **heads
    )


def random_folder(folder: Path, **sizes: Any) -> None:
    """Write a Qwen3 of these sizes, output layer untied, weights drawn at random."""
    import torch
    from transformers import AutoModelForCausalLM, Qwen3Config

    from ftsim.compute.quiet import quiet

    config = Qwen3Config(**sizes, max_position_embeddings=4096, tie_word_embeddings=False)
    torch.manual_seed(0)
    with quiet():
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)


def batch(rows: int, length: int, vocabulary: int = VOCABULARY) -> dict[str, Any]:
    import numpy as np

    drawn = np.random.default_rng(0)
    data = []
    for _ in range(rows):
        tokens = drawn.integers(0, vocabulary, length + 1)
        targets = {"data": tokens[1:].tolist(), "dtype": "int64", "shape": [length]}
        chunk = {"type": "encoded_text", "tokens": tokens[:-1].tolist()}
        data.append({"model_input": {"chunks": [chunk]}, "loss_fn_inputs": {"target_tokens": targets}})
    return {"data": data, "loss_fn": "cross_entropy", "loss_fn_config": None}


def _measured() -> dict[str, float]:
    """Peak of resident memory above that of the imports, beside what weights, gradients and moments take."""
    import torch  # noqa: F401
    import transformers.models.qwen3.modeling_qwen3  # noqa: F401

    before = resident("VmRSS")
    trainer = wide_trainer()
    adam = {"learning_rate": 1e-4, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8}
    trainer.forward_backward("m", batch(1, 4))
    trainer.optim_step("m", adam, None)
    began = time.perf_counter()
    trainer.forward_backward("m", batch(8, 1024))
    seconds = time.perf_counter() - began
    weights = sum(value.numel() * value.element_size() for value in trainer._model("m").trained.values()) / _MB
    # Not getrusage: its peak is that of the process that started this one, where that was the larger one.
    peak = resident("VmHWM") - before
    return {"peak_mb": peak, "state_mb": 4 * weights, "seconds": seconds}


def _saves() -> dict[str, float]:
    """Peak of resident memory in each kind of save and in a load, as a multiple of what was resident before it."""
    trainer = wide_trainer()
    trainer.forward_backward("m", batch(1, 4))
    trainer.optim_step("m", {"learning_rate": 1e-4}, None)
    with tempfile.TemporaryDirectory() as root:
        first, second, state = (Path(root) / name for name in ("first", "second", "state"))
        for folder in (first, second, state):
            folder.mkdir()
        trainer.save_sampler("m", first, identity="first").acknowledged()  # from here on a copy is kept, for deltas
        return {
            "state": _growth(lambda: trainer.save_state("m", state)),
            "base": _growth(lambda: trainer.save_sampler("m", second, identity="second").acknowledged()),
            "load": _growth(lambda: trainer.load_state("m", state, optimizer=True)),
            "resident_mb": resident("VmRSS"),
        }


def _growth(work: Callable[[], object]) -> float:
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = resident("VmRSS")
    work()
    return resident("VmHWM") / before


def resident(field: str = "VmRSS", pid: int | str = "self") -> float:
    """A field of a process's /proc/PID/status in MB."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


if __name__ == "__main__":
    print(json.dumps({"head": _measured, "saves": _saves}[sys.argv[1]]()))
