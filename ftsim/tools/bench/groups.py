"""A trainer on two ranks against one in a single process: time and memory of steps and saves of 91 million weights."""

import contextlib
import functools
import itertools
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from emulator.backend import BaseModel, ModelSpec
from ftsim.tools.bench.measure import Result, milliseconds
from ftsim.tools.bench.sizes import batch, random_folder, resident
from ftsim.tools.bench.stand import Stand
from ftsim.tools.bench.workload import ADAM

ROUNDS = 4
VOCABULARY = 8_192
_NAMES = {1: "one", 2: "two"}


def group_step(stand: Stand) -> Iterator[Result]:
    """A full-parameter step of 8 x 64 tokens in one process over that on two ranks."""
    yield _ratio("group_step", "step_ms", more_is_better=True)


def group_save(stand: Stand) -> Iterator[Result]:
    """The save of a training state in one process over that on two ranks."""
    yield _ratio("group_save", "save_ms", more_is_better=True)


def group_memory(stand: Stand) -> Iterator[Result]:
    """Peak of memory of the larger of two ranks, in a step or a save, over that of one process."""
    yield _ratio("group_memory", "peak_mb", more_is_better=False)


def _ratio(name: str, what: str, *, more_is_better: bool) -> Result:
    one, two = _measured(1), _measured(2)
    value = one[what] / two[what] if more_is_better else two[what] / one[what]
    shown = [key for key in one if key == what or (what == "peak_mb" and key.endswith("_mb"))]
    parts = {f"{_NAMES[ranks]}_{key}": found[key] for key in shown for ranks, found in ((1, one), (2, two))}
    return Result(name, value, "x", None, more_is_better, parts=parts)


@functools.cache
def _measured(ranks: int) -> dict[str, float]:
    """Median milliseconds of a step and of a save, and the largest peak of memory that a rank has in each, in MB."""
    from ftsim.compute.backend import TorchBackend

    with tempfile.TemporaryDirectory() as name:
        folder, numbers = Path(name), itertools.count()
        _make_model(folder / "model")
        with contextlib.closing(TorchBackend(folder / "bases", workers=1, nproc=ranks)) as backend:
            base = BaseModel("accounts/fireworks/models/group", folder / "model")
            trainer = backend.open_trainer(base, lora_rank=0, max_context_length=0)
            trainer.create_model(ModelSpec("m", base, None))
            asked = batch(8, 64, vocabulary=VOCABULARY)

            def step() -> None:
                trainer.forward_backward("m", asked)
                trainer.optim_step("m", ADAM, None)

            def save() -> None:
                (place := folder / f"state-{next(numbers)}").mkdir()
                trainer.save_state("m", place)

            step()
            held = max(resident(pid=pid) for pid in backend.workers.pids())
            found = {"held_mb": held}
            for what, work in (("step", step), ("save", save)):
                times, peak = _watched(work, backend.workers.pids())
                found |= {f"{what}_ms": statistics.median(times), f"{what}_peak_mb": peak}
    return found | {"peak_mb": max(found["step_peak_mb"], found["save_peak_mb"])}


def _watched(work: Callable[[], object], pids: list[int]) -> tuple[list[float], float]:
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew
    times = [milliseconds(work) for _ in range(ROUNDS)]
    return times, max(resident("VmHWM", pid) for pid in pids)


def _make_model(folder: Path) -> None:
    """A folder of twelve layers of hidden 768 under a vocabulary of 8,192, weights drawn at random."""
    heads = {"num_attention_heads": 12, "num_key_value_heads": 6, "head_dim": 64}
    random_folder(folder, hidden_size=768, num_hidden_layers=12, vocab_size=VOCABULARY, intermediate_size=2048, **heads)
