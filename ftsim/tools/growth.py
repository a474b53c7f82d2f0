"""Computes how rows, requests and bytes grow with the number of runs, and what is full first.

`python -m ftsim.tools.growth [--steps 100] [--saves 10] [--hours 1] [--database URL]` carries out one run on the light
emulator and counts what it leaves and asks for; measures what one process and one database take; and multiplies.
"""

import argparse
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import httpx
import orjson

from emulator.server import Emulator
from emulator.state.store import Store
from emulator.state.world import World
from ftsim.testing.wire import BASE, Wire

RUNS = (10, 1_000, 100_000)
TRAINER_MB = 300
"""What a small stand-in takes on its trainer (docs/deploy.md); a model of your own takes what docs/scale.md says."""
MEMORY_GB = 64
"""Memory of a machine, of which the trainers and the rows of its accounts may take all."""
_TRIES_S = 1.0
_DATUM = {
    "model_input": {"chunks": [{"tokens": [1, 2]}]},
    "loss_fn_inputs": {"target_tokens": {"data": [1, 2], "dtype": "int64"}},
}


@dataclass(frozen=True)
class Run:
    """Counts of one run: what it asks for, what it leaves in the store, and how often the store waits for the disk."""

    requests: int
    rows: int
    row_bytes: int
    commits: int
    blobs: int
    objects: int


@dataclass(frozen=True)
class Capacity:
    """Measures of one process and one database: per second, and bytes of memory per row."""

    requests_s: float
    commits_s: float
    row_memory: float


def one_run(steps: int, saves: int) -> Run:
    """Carry out a run on the light emulator: `steps` optimizer steps, `saves` times both kinds of save, a promotion."""
    with _emulator() as (emulator, http):
        commits = _counted(emulator.world.store)
        http.post(
            "/v1/accounts/local/rlorTrainerJobs?rlorTrainerJobId=run", json={"trainingConfig": {"baseModel": BASE}}
        ).raise_for_status()
        wire, seq = Wire(http, "run"), 0

        def ask(verb: str, **body: object) -> None:
            nonlocal seq
            seq += 1
            wire.run(verb, seq, **body)

        for step in range(1, steps + 1):
            ask("forward_backward", forward_backward_input={"data": [_DATUM], "loss_fn": "cross_entropy"})
            ask("optim_step", adam_params={"learning_rate": 1e-4})
            if step * saves // steps > (step - 1) * saves // steps:
                ask("save_weights", path=f"step-{step}")
                ask("save_weights_for_sampler", path=f"sample-{step}-0a1b2c3d", checkpoint_type="base")
                http.get("/v1/accounts/local/rlorTrainerJobs/run/checkpoints").raise_for_status()
        owner = {"trainer_job_id": "accounts/local/rlorTrainerJobs/run", "base_model": BASE}
        http.post(
            f"/v1/accounts/local/checkpoints/sample-{steps}-0a1b2c3d:promote",
            json={"output_model": "accounts/local/models/run", **owner},
        ).raise_for_status()
        emulator.platform.curves.flush()
        bodies = [body for found in emulator.world.dump().values() for body in found]
        files = [path for path in emulator.platform.blobs.root.rglob("*") if path.is_file()]
        return Run(
            len(emulator.journal.entries),
            len(bodies),
            sum(len(orjson.dumps(body)) for body in bodies),
            len(commits),
            sum(1 for body in bodies if body.get("blob")),
            len(files),
        )


def capacity(database: str | None) -> Capacity:
    """Measure what one process answers, what a store commits, and what a row takes in memory."""
    with _emulator() as (_, http):
        requests = _per_second(lambda: http.get("/v1/accounts/local/rlorTrainerJobs").raise_for_status())
    with tempfile.TemporaryDirectory(prefix="ftsim-") as folder, _store(database, Path(folder)) as store:
        body = {"created": 1, "text": "x" * 600}
        commits = _per_second(lambda: store.write({("growth", "accounts/growth/growths/one"): body}))
        store.write({}, [("growth", "accounts/growth/growths/one")])
    return Capacity(requests, commits, _row_memory())


def table(run: Run, one: Capacity, hours: float, save_mb: float) -> list[str]:
    """The lines of a table in Markdown: what so many runs at once ask for, and what is full first."""
    lines = [
        "| runs at once | rows, their bytes | blobs, objects, bytes | requests/s: of one process | "
        "commits/s: of one database | memory of trainers and rows: of one machine | full first |",
        "|---|---|---|---|---|---|---|",
    ]
    for runs in RUNS:
        rate = runs / (hours * 3600)
        memory = runs * (TRAINER_MB * 10**6 + run.rows * one.row_memory)
        used = {
            "a process's requests": rate * run.requests / one.requests_s,
            "the database's commits": rate * run.commits / one.commits_s,
            "memory": memory / (MEMORY_GB * 10**9),
        }
        first = max(used, key=lambda part: used[part])
        requests, commits, taken = used.values()
        cells = (
            f"{runs:,}",
            f"{runs * run.rows:,}, {_bytes(runs * run.row_bytes)}",
            f"{runs * run.blobs:,}, {runs * run.objects:,}, {_bytes(runs * run.blobs * save_mb * 10**6)}",
            f"{rate * run.requests:,.1f}: {requests:.3g}",
            f"{rate * run.commits:,.2f}: {commits:.3g}",
            f"{_bytes(memory)}: {taken:.3g}",
            f"{first}{'' if used[first] > 1 else ', and it is not full'}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main(words: Sequence[str] | None = None) -> None:
    """Print the table, and what it is made of."""
    parser = argparse.ArgumentParser(prog="python -m ftsim.tools.growth", description=main.__doc__)
    parser.add_argument("--steps", type=int, default=100, help="optimizer steps of a run")
    parser.add_argument("--saves", type=int, default=10, help="times that a run saves both kinds")
    parser.add_argument("--hours", type=float, default=1.0, help="how long a run takes")
    parser.add_argument("--save-mb", type=float, default=60.0, help="megabytes of a save: of your model and its kind")
    parser.add_argument("--database", help="measure this PostgreSQL instead of a state folder; it must be empty")
    given = parser.parse_args(words)
    run, one = one_run(given.steps, given.saves), capacity(given.database)
    print(
        f"a run of {given.steps} steps and {given.saves} saves of both kinds, over {given.hours:g} h: {run.requests} "
        f"requests, {run.rows} rows of {run.row_bytes} bytes together, {run.commits} commits, {run.blobs} blobs of "
        f"{run.objects} objects (a blob of {given.save_mb:g} MB is declared)"
    )
    print(
        f"measured: one process answers {one.requests_s:,.0f} requests/s of one client, "
        f"{'PostgreSQL' if given.database else 'a state folder'} commits {one.commits_s:,.0f} times/s one after the "
        f"other, a row takes {one.row_memory:,.0f} bytes of memory; declared: {TRAINER_MB} MB a trainer, "
        f"{MEMORY_GB} GB a machine\n"
    )
    print("\n".join(table(run, one, given.hours, given.save_mb)))


@contextmanager
def _emulator() -> Iterator[tuple[Emulator, httpx.Client]]:
    with (
        Emulator("light") as emulator,
        httpx.Client(base_url=emulator.url, headers={"X-Api-Key": emulator.api_key}, timeout=60) as http,
    ):
        yield emulator, http


@contextmanager
def _store(database: str | None, folder: Path) -> Iterator[Store]:
    if database is None:
        from emulator.state.database import Database

        store: Store = Database(folder / "metadata.sqlite")
    else:
        from emulator.state.leases import Holder
        from emulator.state.server_database import ServerDatabase

        store = server = ServerDatabase(database, Holder("growth", ""))
        server.begin()
    try:
        yield store
    finally:
        store.close()


def _counted(store: Store) -> list[int]:
    """A list that gets an entry for each write of a store that waits for the disk."""
    counted: list[int] = []
    write = store.write

    def noted(changed: Mapping[Any, Any], removed: Any = (), *, synced: bool = True) -> None:
        write(changed, removed, synced=synced)
        if synced:
            counted.append(len(changed))

    store.write = noted  # type: ignore[method-assign]
    return counted


def _per_second(act: Callable[[], object]) -> float:
    act()
    count, began = 0, perf_counter()
    while perf_counter() - began < _TRIES_S:
        act()
        count += 1
    return count / (perf_counter() - began)


def _row_memory() -> float:
    """Bytes of memory that a checkpoint's row takes, once it was read."""
    from emulator.core.kinds import CheckpointKind
    from emulator.state.entities import Checkpoint

    world, count = World(), 2000
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    with world.change():
        for number in range(count):
            world.checkpoints.put(
                Checkpoint(
                    owner=f"accounts/local/rlorTrainerJobs/j{number // 20}",
                    id=f"step-{number}",
                    created=number,
                    updated=number,
                    kind=CheckpointKind.TRAINING,
                    blob=f"local/j{number // 20}/step-{number}~0a1b2c3d",
                    base_model=BASE,
                    digests={f"file-{at}": f"{number:032x}" for at in range(6)},
                )
            )
    world.store.replace({})  # whose copy is on a disk elsewhere
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return taken / count


def _bytes(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} PB"


if __name__ == "__main__":
    main()
