"""`python -m tests.load [SECONDS] [CLIENTS]`: many clients at once, then a count: nothing lost, memory bounded.

Half of the clients train a model each on a handful of jobs, half create, list and delete jobs. What every client was
told is compared with what the emulator has at the end, and again after a restart. Loopback only; ends by itself.
"""

import asyncio
import itertools
import json
import resource
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from emulator.server import Emulator
from tests.doubles import BASE, DictBackend
from tests.http.gateway.conftest import batch

JOBS = "/v1/accounts/local/rlorTrainerJobs"
TRAINERS = 8
KEEP_EVERY = 4


@dataclass
class Tally:
    """Counts what clients were told."""

    requests: int = 0
    steps: Counter[str] = field(default_factory=Counter)
    saved: set[str] = field(default_factory=set)
    jobs: set[str] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


class Client:
    """One connection; every answer that is no success is a failure of the run."""

    def __init__(self, http: httpx.AsyncClient, tally: Tally) -> None:
        self._http, self._tally = http, tally

    async def ask(self, method: str, path: str, **options: Any) -> Any:
        began = time.perf_counter()
        try:
            answer = await self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            self._tally.failures.append(f"{method} {path}: {type(error).__name__}")
            raise
        self._tally.requests += 1
        self._tally.seconds.append(time.perf_counter() - began)
        if answer.status_code != 200:
            self._tally.failures.append(f"{method} {path}: {answer.status_code} {answer.text[:100]}")
        return answer.json()


async def train(client: Client, tally: Tally, number: int, until: float) -> None:
    base = f"/training/v1/rlorTrainerJobs/local/load-{number % TRAINERS}/api/v1/"

    async def run(verb: str, body: dict[str, Any]) -> Any:
        promise = (await client.ask("POST", base + verb, json=body))["request_id"]
        while (found := await client.ask("POST", base + "retrieve_future", json={"request_id": promise})).get(
            "type"
        ) == "try_again":
            pass
        if "error" in found:
            tally.failures.append(f"{verb}: {found['error'][:100]}")
        return found

    session = (await client.ask("POST", base + "create_session", json={"tags": []}))["session_id"]
    model = (await run("create_model", {"session_id": session, "model_seq_id": 0, "base_model": BASE}))["model_id"]
    for step in itertools.count(1):
        if time.monotonic() > until:
            break
        body = {"model_id": model, "seq_id": 2 * step - 1, "forward_backward_input": batch(1, 2, 3)}
        await run("forward_backward", body)
        await run("optim_step", {"model_id": model, "seq_id": 2 * step, "adam_params": {}})
        tally.steps[f"load-{number % TRAINERS}/{model}"] += 1
    seq = 2 * tally.steps[f"load-{number % TRAINERS}/{model}"] + 1
    await run("save_weights", {"model_id": model, "seq_id": seq, "path": f"c{number}"})
    tally.saved.add(f"accounts/local/rlorTrainerJobs/load-{number % TRAINERS}/checkpoints/c{number}")


async def manage(client: Client, tally: Tally, number: int, until: float) -> None:
    for turn in itertools.count():
        if time.monotonic() > until:
            break
        name = f"m{number}-{turn}"
        body = {"trainingConfig": {"baseModel": BASE}}
        await client.ask("POST", JOBS, params={"rlorTrainerJobId": name}, json=body)
        tally.jobs.add(f"accounts/local/rlorTrainerJobs/{name}")
        await client.ask("GET", f"{JOBS}/{name}")
        await client.ask("GET", JOBS, params={"pageSize": 20})
        if turn % KEEP_EVERY:
            await client.ask("DELETE", f"{JOBS}/{name}")
        await asyncio.sleep(0.05)


async def crowd(emulator: Emulator, tally: Tally, seconds: float, clients: int) -> None:
    headers, limits = {"X-Api-Key": emulator.api_key}, httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=emulator.url, headers=headers, timeout=120, limits=limits) as http:
        client = Client(http, tally)
        for number in range(TRAINERS):
            body = {"trainingConfig": {"baseModel": BASE}}
            await client.ask("POST", JOBS, params={"rlorTrainerJobId": f"load-{number}"}, json=body)
        until = time.monotonic() + seconds
        work = [(train if number % 2 else manage)(client, tally, number, until) for number in range(clients)]
        await asyncio.gather(*work)


def memory() -> float:
    """MB of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def lost(emulator: Emulator, tally: Tally) -> list[str]:
    """List what clients were told and the emulator does not have."""
    world = emulator.world
    missing = [name for name in tally.jobs if name not in world.jobs]
    missing += [name for name in tally.saved if name not in world.checkpoints]
    for row in world.checkpoints:
        state = json.loads((emulator.platform.blobs.path(row.blob) / "__0_0.distcp").read_text())
        told = tally.steps[f"{row.owner.rsplit('/', 1)[1]}/{row.model_id}"]
        if state["step"] != told:
            missing.append(f"{row.name} holds {state['step']} steps, {told} were acknowledged")
    return missing


def main(seconds: int, clients: int) -> int:
    tally = Tally()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        backend = DictBackend(folder / "base")
        with Emulator(backend, state_dir=folder / "state") as emulator:
            before = memory()
            began = time.monotonic()
            asyncio.run(crowd(emulator, tally, seconds, clients))
            took, grown = time.monotonic() - began, memory() - before
            missing = lost(emulator, tally)
            kept = len(emulator.journal)
        with Emulator(backend, state_dir=folder / "state") as emulator:
            after_restart = lost(emulator, tally)
    times = sorted(tally.seconds)
    print(
        f"{clients} clients, {took:.1f} s: {tally.requests} requests ({tally.requests / took:.0f}/s), "
        f"median {1000 * times[len(times) // 2]:.0f} ms, "
        f"99% {1000 * times[int(len(times) * 0.99)]:.0f} ms"
    )
    print(f"{sum(tally.steps.values())} steps, {len(tally.saved)} checkpoints, {len(tally.jobs)} jobs acknowledged")
    print(f"failed: {len(tally.failures)}; lost: {len(missing)}; lost after a restart: {len(after_restart)}")
    print(f"memory grew by {grown:.0f} MB (clients included); the journal keeps {kept} exchanges")
    for line in (*tally.failures[:5], *missing[:5], *after_restart[:5]):
        print(line)
    return int(bool(tally.failures or missing or after_restart or grown > LIMIT_MB))


LIMIT_MB = 400

if __name__ == "__main__":
    arguments = [int(word) for word in sys.argv[1:]]
    raise SystemExit(main(*(arguments + [60, 200][len(arguments) :])))
