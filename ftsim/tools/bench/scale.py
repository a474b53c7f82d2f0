"""`ftsim bench --scale`: how cost grows with what there is more of, an exponent for each.

An exponent is the slope of the straight line through the logarithms of sizes and times: 0 costs the same at any size,
1 grows in proportion. Every time is the median of a few calls; the control plane answers over a socket, on the light
backend, and what computes is asked without one.
"""

import contextlib
import itertools
import math
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ftsim.tools.bench.measure import milliseconds
from ftsim.tools.bench.sizes import batch, wide_trainer
from ftsim.tools.bench.workload import ADAM, BASE_MODEL

_CALLS = 5
_WAIT = 600
Measure = Callable[[contextlib.ExitStack, int], Callable[[], object]]
"""Makes, for a size, the call that is timed."""


@dataclass(frozen=True)
class Axis:
    """Something of which there can be more: what is timed, at which sizes."""

    what: str
    sizes: tuple[int, ...]
    made: Measure


@dataclass(frozen=True)
class Growth:
    """Milliseconds at each size of an axis."""

    name: str
    times: Mapping[int, float]

    @property
    def exponent(self) -> float:
        """The slope of the line through the logarithms, by least squares."""
        points = [(math.log(size), math.log(ms)) for size, ms in self.times.items()]
        middle, height = (statistics.fmean(values) for values in zip(*points, strict=True))
        across = sum((x - middle) ** 2 for x, _ in points)
        return sum((x - middle) * (y - height) for x, y in points) / across


def grown(names: Sequence[str]) -> Iterator[Growth]:
    """Measure the named axes, in their own order."""
    for name, axis in AXES.items():
        if name in names:
            times = {}
            for size in axis.sizes:
                with contextlib.ExitStack() as stack:
                    call = axis.made(stack, size)
                    call()
                    times[size] = statistics.median(milliseconds(call) for _ in range(_CALLS))
            yield Growth(name, times)


def _emulator(stack: contextlib.ExitStack) -> tuple[Any, Any]:
    """A light emulator in memory, and a connection to it."""
    import httpx

    import ftsim

    emulator = stack.enter_context(ftsim.Emulator(backend="light"))
    headers = {"X-Api-Key": emulator.api_key}
    return emulator, stack.enter_context(httpx.Client(base_url=emulator.url, headers=headers, timeout=_WAIT))


def _jobs(emulator: Any, count: int) -> None:
    from emulator.state.entities import Job

    world = emulator.platform.world
    with world.change():
        now = world.clock.now()
        for number in range(count):
            job = Job(
                account=emulator.account, id=f"j{number}", base_model=BASE_MODEL, created=now + number, updated=now
            )
            world.jobs.put(job)


def _rows(stack: contextlib.ExitStack, count: int) -> Callable[[], object]:
    from emulator.core.kinds import CheckpointKind
    from emulator.state.entities import Checkpoint

    emulator, http = _emulator(stack)
    _jobs(emulator, 1)
    world, owner = emulator.platform.world, f"accounts/{emulator.account}/rlorTrainerJobs/j0"
    now = world.clock.now()
    with world.change():
        for step in range(count):
            made = {"created": now + step, "updated": now + step, "step": step, "size": 1, "base_model": BASE_MODEL}
            row = Checkpoint(owner=owner, id=f"step-{step}", kind=CheckpointKind.TRAINING, blob=f"b/{step}", **made)
            world.checkpoints.put(row)

    def whole_list() -> None:
        seen, token = 0, ""
        while True:
            page = http.get(f"/v1/{owner}/checkpoints", params={"pageSize": 200, "pageToken": token}).json()
            seen, token = seen + len(page["checkpoints"]), page.get("nextPageToken", "")
            if not token:
                break
        if seen != count:
            raise RuntimeError(f"the list has {seen} rows, not {count}")

    return whole_list


def _many_jobs(stack: contextlib.ExitStack, count: int) -> Callable[[], object]:
    emulator, http = _emulator(stack)
    _jobs(emulator, count)
    path = f"/v1/accounts/{emulator.account}/rlorTrainerJobs/j{count // 2}"
    return lambda: [http.get(path).raise_for_status() for _ in range(20)]


def _journal(stack: contextlib.ExitStack, count: int) -> Callable[[], object]:
    emulator, http = _emulator(stack)
    _jobs(emulator, 1)
    path = f"/v1/accounts/{emulator.account}/rlorTrainerJobs/j0"
    for _ in range(count):
        http.get(path).raise_for_status()
    return lambda: [http.get(path).raise_for_status() for _ in range(20)]


def _clients(stack: contextlib.ExitStack, count: int) -> Callable[[], object]:
    import httpx

    emulator, http = _emulator(stack)
    _jobs(emulator, 1)
    path = f"/v1/accounts/{emulator.account}/rlorTrainerJobs/j0"
    each = [stack.enter_context(httpx.Client(base_url=emulator.url, headers=dict(http.headers))) for _ in range(count)]
    pool = stack.enter_context(ThreadPoolExecutor(count))

    def all_ask() -> None:
        def one(client: Any) -> None:
            for _ in range(20):
                client.get(path).raise_for_status()

        list(pool.map(one, each))

    return all_ask


def _steps(stack: contextlib.ExitStack, count: int) -> Callable[[], object]:
    trainer, asked = wide_trainer(vocabulary=512), batch(1, 16, vocabulary=512)

    def steps(number: int) -> None:
        for _ in range(number):
            trainer.forward_backward("m", asked)
            trainer.optim_step("m", ADAM, None)

    steps(count)
    return lambda: steps(4)


def _length(stack: contextlib.ExitStack, count: int) -> Callable[[], object]:
    trainer, asked = wide_trainer(vocabulary=2048), batch(1, count, vocabulary=2048)
    return lambda: trainer.forward_backward("m", asked)


def _batch(stack: contextlib.ExitStack, count: int) -> Callable[[], object]:
    trainer, asked = wide_trainer(vocabulary=2048), batch(count, 64, vocabulary=2048)
    return lambda: trainer.forward_backward("m", asked)


def _vocabulary(stack: contextlib.ExitStack, count: int) -> Callable[[], object]:
    trainer, asked = wide_trainer(vocabulary=count), batch(2, 64, vocabulary=count)
    return lambda: trainer.forward_backward("m", asked)


def _parameters(stack: contextlib.ExitStack, count: int) -> Callable[[], object]:
    """A model of about `count` parameters: most of them are the embedding and the output layer."""
    trainer = wide_trainer(vocabulary=count // 128)
    trainer.forward_backward("m", batch(1, 4, vocabulary=count // 128))
    trainer.optim_step("m", ADAM, None)
    place, numbers = Path(stack.enter_context(tempfile.TemporaryDirectory())), itertools.count()

    def save() -> None:
        folder = place / str(next(numbers))
        folder.mkdir()
        trainer.save_state("m", folder)

    return save


def _hot_loads(stack: contextlib.ExitStack, count: int) -> Callable[[], object]:
    """A delta on a replica that has `count` of them; each timed call adds one more."""
    from emulator.backend import BaseModel, ModelSpec
    from ftsim.compute.backend import TorchBackend
    from ftsim.compute.models import catalogue
    from ftsim.compute.trainer.trainer import TorchTrainer

    place, numbers = Path(stack.enter_context(tempfile.TemporaryDirectory())), itertools.count()
    base = catalogue.base_folder(BASE_MODEL, place / "base")
    trainer, asked = TorchTrainer(lambda _: base), batch(1, 16, vocabulary=512)
    trainer.create_model(ModelSpec("m", BaseModel(BASE_MODEL), None))

    def saved(kind: Literal["base", "delta"]) -> tuple[Path, str]:
        identity = f"s{next(numbers)}"
        folder = place / identity
        folder.mkdir()
        trainer.forward_backward("m", asked)
        trainer.optim_step("m", ADAM, None)
        trainer.save_sampler("m", folder, identity=identity, checkpoint_type=kind).acknowledged()
        return folder, identity

    first, identity = saved("base")
    replica = TorchBackend().open_replica(BaseModel("wide", first), max_context_length=0)
    stack.callback(replica.close)
    replica.load_base(first, identity)

    def load() -> None:
        replica.apply_delta(*saved("delta"))

    for _ in range(count):
        load()
    return load


def _streams(stack: contextlib.ExitStack, count: int) -> Callable[[], object]:
    from emulator.backend import BaseModel, GenerateRequest
    from ftsim.compute.backend import TorchBackend
    from ftsim.compute.models import catalogue

    folder = catalogue.base_folder(BASE_MODEL, Path(stack.enter_context(tempfile.TemporaryDirectory())))
    replica = TorchBackend().open_replica(BaseModel("bench", folder), max_context_length=0)
    stack.callback(replica.close)
    asked = [GenerateRequest([row + 1, 2, 3, 4], max_tokens=32, ignore_eos=True, seed=row) for row in range(count)]
    return lambda: [future.result(_WAIT) for future in [replica.generate(one) for one in asked]]


AXES: Mapping[str, Axis] = {
    "rows": Axis("the whole list of a job's rows, 200 a page", (1_000, 10_000, 100_000), _rows),
    "jobs": Axis("20 GETs of a job among so many", (10, 1_000, 10_000), _many_jobs),
    "journal": Axis("20 GETs after so many requests", (10, 1_000, 10_000), _journal),
    "clients": Axis("20 GETs of each of so many clients at once", (1, 4, 16), _clients),
    "steps": Axis("4 optimizer steps after so many", (1, 30, 300), _steps),
    "length": Axis("forward_backward of one row of so many tokens", (128, 512, 2_048), _length),
    "batch": Axis("forward_backward of so many rows of 64 tokens", (1, 8, 64), _batch),
    "vocabulary": Axis("forward_backward of 128 tokens under so many", (2_048, 16_384, 151_936), _vocabulary),
    "parameters": Axis("saving the training state of so many", (1 << 18, 1 << 21, 1 << 24), _parameters),
    "hot-loads": Axis("step, delta and hot-load after so many", (1, 8, 40), _hot_loads),
    "streams": Axis("32 tokens for each of so many requests", (1, 8, 64, 256), _streams),
}


def table(found: Sequence[Growth]) -> list[str]:
    """The rows of a Markdown table."""
    lines = ["| of what | what is timed | milliseconds, by size | exponent |", "|---|---|---|---|"]
    for one in found:
        times = ", ".join(f"{size:,}: {ms:.3g}" for size, ms in one.times.items())
        lines.append(f"| {one.name} | {AXES[one.name].what} | {times} | {one.exponent:.2f} |")
    return lines


def picture(found: Sequence[Growth]) -> str:
    """An SVG of all axes: by how much the time has grown when the size has, each from its smallest."""
    from ftsim.training.pictures import svg

    curves = {}
    for one in found:
        (size, ms), *_ = one.times.items()
        curves[one.name] = [(math.log10(more / size), math.log10(took / ms)) for more, took in one.times.items()]
    return svg(curves, "How cost grows", "decades of size", "decades of time")
