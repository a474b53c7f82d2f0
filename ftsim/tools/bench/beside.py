"""The time that training steps lose to a save of 107 million weights, written at once and beside them."""

import json
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ftsim.tools.bench.measure import Result
from ftsim.tools.bench.sizes import batch, in_a_process, resident, wide_folder
from ftsim.tools.bench.stand import Stand

NAME = "accounts/fireworks/models/wide"
HIDDEN = 352
ROUNDS = 5


def save_beside(stand: Stand) -> Iterator[Result]:
    """Hold-up of the next step by a save of a training state: `async-save`, against a save at once."""
    found = in_a_process(__name__)
    yield Result("save_beside", found["async_held_s"] / found["at_once_held_s"], "x", 0.6, parts=found)


def measured() -> dict[str, float]:
    """The least over saves, in seconds: a step by itself, what a save adds to the one after it, and the save's answer.

    Every number is a client's, over a socket; the state folders are on this machine's disk. Both kinds take turns, and
    the least is that with the least of other work beside it.
    """
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        wide_folder(Path(folder), HIDDEN)
        kinds = {"at_once": "", "async": "async-save"}
        runs = {kind: stack.enter_context(_running(Path(folder), how)) for kind, how in kinds.items()}
        rounds: dict[str, list[dict[str, float]]] = {kind: [] for kind in runs}
        for number in range(ROUNDS + 1):
            for kind, run in runs.items():
                rounds[kind].append(run.save(f"step-{number}"))
    return {
        f"{kind}_{name}": min(one[name] for one in taken[1:]) for kind, taken in rounds.items() for name in taken[0]
    }


@contextmanager
def _running(folder: Path, how: str) -> Iterator["_Run"]:
    import httpx

    import ftsim
    from emulator.platform.jobs.spec import JobSpec
    from ftsim.compute.backend import TorchBackend
    from ftsim.testing.wire import Wire

    with (
        tempfile.TemporaryDirectory() as state,
        ftsim.Emulator(TorchBackend(compute=[how]), state_dir=Path(state), models={NAME: folder}) as emulator,
        httpx.Client(base_url=emulator.url, headers={"X-Api-Key": emulator.api_key}, timeout=600) as http,
    ):
        emulator.platform.jobs.create(emulator.account, JobSpec(base_model=NAME), "j1")
        yield _Run(Wire(http, "j1", base_model=NAME))


class _Run:
    """A model on a job, and the number of its next call."""

    def __init__(self, wire: Any) -> None:
        self._wire = wire
        self._seq = 0
        self._asked = batch(1, 4)

    def submit(self, verb: str, **body: object) -> str:
        self._seq += 1
        return str(self._wire.submit(verb, self._seq, **body))

    def answer(self, call: str) -> float:
        """Wait for an answer; the moment at which it came."""
        answer = self._wire.result(call)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return time.perf_counter()

    def step(self) -> float:
        """One step; the moment at which it was over."""
        first = self.submit("forward_backward", forward_backward_input=self._asked)
        second = self.submit("optim_step", adam_params={"learning_rate": 1e-4})
        self.answer(first)
        return self.answer(second)

    def save(self, name: str) -> dict[str, float]:
        """A save with steps before, behind and beside it; seconds, and the growth of memory in MB."""
        alone = [self._timed() for _ in range(3)]
        before = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        told: list[float] = []
        began = time.perf_counter()
        call = self.submit("save_weights", path=name)
        waiting = threading.Thread(target=lambda: told.append(self.answer(call)))
        waiting.start()
        held = self.step() - began - min(alone)
        beside = []
        while not told:
            beside.append(self._timed())
        waiting.join()
        return {
            "step_s": min(alone),
            "held_s": held,
            "steps_beside": float(len(beside)),
            "acknowledged_s": told[0] - began,
            "growth_mb": resident("VmHWM") - before,
        }

    def _timed(self) -> float:
        began = time.perf_counter()
        return self.step() - began


if __name__ == "__main__":
    print(json.dumps(measured()))
