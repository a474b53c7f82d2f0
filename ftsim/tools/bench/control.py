"""The control plane: how fast it starts, lists and answers."""

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from ftsim.process.environment import PACKAGE_ROOT
from ftsim.tools.bench.measure import Result, milliseconds
from ftsim.tools.bench.stand import Stand
from ftsim.tools.bench.workload import BASE_MODEL

ROWS = 10_000
CLIENTS = 8
WINDOW_S = 0.6


def start_up(stand: Stand) -> Iterator[Result]:
    """From the start of the command `ftsim serve` to its first healthy answer."""
    times = [_start_once(stand.folder / f"start-{turn}") for turn in range(6)][1:]
    yield Result("start_up", statistics.median(times), "s", 0.5)


def _start_once(state_dir: Path) -> float:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "ftsim", "serve", "--port", str(port), "--state-dir", str(state_dir)]
    began = time.perf_counter()
    server = subprocess.Popen(command, cwd=PACKAGE_ROOT, stdout=subprocess.DEVNULL)
    try:
        while not _healthy(port):
            if server.poll() is not None:  # another program may have taken the port meanwhile
                raise RuntimeError(f"ftsim serve ended while starting, status {server.returncode}")
            time.sleep(0.002)
        return time.perf_counter() - began
    finally:
        server.terminate()
        server.wait()


def _healthy(port: int) -> bool:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def list_10000_rows(stand: Stand) -> Iterator[Result]:
    """`FireworksClient.list_checkpoints` of a job with 10,000 rows, all pages."""
    from fireworks.training.sdk import FireworksClient

    record = stand.server_on(many_rows(stand))
    client = FireworksClient(api_key=record.api_key, base_url=record.url)
    if (found := len(client.list_checkpoints("many"))) != ROWS:
        raise RuntimeError(f"the list has {found} rows, not {ROWS}")
    times = [milliseconds(lambda: client.list_checkpoints("many")) / 1e3 for _ in range(5)]
    yield Result("list_10000_rows", statistics.median(times), "s", 0.5)


def many_rows(stand: Stand) -> Path:
    """A state folder with one job of many rows; made once."""
    state_dir = stand.folder / "many"
    if not state_dir.exists():
        _fill(state_dir)
    return state_dir


def _fill(state_dir: Path) -> None:
    """Make a state folder with one job of many rows, as if they had been saved."""
    from emulator.core.kinds import CheckpointKind
    from emulator.server import ACCOUNT
    from emulator.state.database import Database
    from emulator.state.entities import Checkpoint, Job
    from emulator.state.world import World

    state_dir.mkdir()
    world = World(store=Database(state_dir / "metadata.sqlite"))
    now = world.clock.now()
    with world.change():
        job = world.jobs.put(Job(account=ACCOUNT, id="many", base_model=BASE_MODEL, created=now, updated=now))
        for step in range(1, ROWS + 1):
            row = Checkpoint(
                owner=job.name,
                id=f"step-{step}",
                created=now + step,
                updated=now + step,
                kind=CheckpointKind.TRAINING,
                blob=f"{ACCOUNT}/many/step-{step}",
                base_model=BASE_MODEL,
                step=step,
                size=1,
            )
            world.checkpoints.put(row)
    world.store.close()


def control_plane_get(stand: Stand) -> Iterator[Result]:
    """Requests per second of GET job with 8 clients, against an empty FastAPI route under the same server."""
    stand.client("bench-get")
    path = f"/v1/accounts/{stand.server.account_id}/rlorTrainerJobs/bench-get"
    port = urlsplit(stand.server.url).port or 0
    with subprocess.Popen(
        [sys.executable, "-m", "ftsim.tools.bench.empty_app"], cwd=PACKAGE_ROOT, stdout=subprocess.PIPE, text=True
    ) as empty:
        assert empty.stdout is not None
        empty_port = int(json.loads(empty.stdout.readline())["port"])
        try:
            pairs = [
                (_rate(port, path, stand.server.api_key), _rate(empty_port, "/empty", stand.server.api_key))
                for _ in range(6)
            ][1:]
        finally:
            empty.terminate()
    ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    parts = {"emulated_per_s": ours, "empty_per_s": theirs}
    yield Result("control_plane_get", ours / theirs, "x", 0.7, more_is_better=True, parts=parts)


def _rate(port: int, path: str, key: str) -> float:
    """Answers per second that CLIENTS connections get, each asking again as soon as it was answered."""
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Api-Key: {key}\r\n\r\n".encode()

    async def one(until: float) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answered = 0
        while time.perf_counter() < until:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(head.decode(errors="replace"))
            length = next(
                int(field[15:]) for field in head.lower().split(b"\r\n") if field.startswith(b"content-length:")
            )
            await reader.readexactly(length)
            answered += 1
        writer.close()
        return answered

    async def all_clients() -> float:
        began = time.perf_counter()
        counts = await asyncio.gather(*(one(began + WINDOW_S) for _ in range(CLIENTS)))
        return sum(counts) / (time.perf_counter() - began)

    return asyncio.run(all_clients())
