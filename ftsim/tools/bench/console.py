"""The web console: how long a page takes, and what it costs a run that somebody looks at it."""

import contextlib
import statistics
import threading
import time
from collections.abc import Iterator

import httpx

from emulator.state.server_record import ServerRecord
from ftsim.process.run import console_link
from ftsim.tools.bench.control import many_rows
from ftsim.tools.bench.measure import Result, ratio
from ftsim.tools.bench.stand import Stand

RUN_S, ROUNDS = 4.5, 5
"""Seconds of a run, and how many runs with the page open are compared with as many without."""
PAGE_S = 3.0
"""Seconds between two looks of an open page at its live part; at its curves it looks every 4.5."""


def console_page(stand: Stand) -> Iterator[Result]:
    """The page of a run with 10,000 rows against a GET of the first ten of them."""
    record = stand.server_on(many_rows(stand))
    job = f"accounts/{record.account_id}/rlorTrainerJobs/many"
    with browser(record) as console, httpx.Client(base_url=record.url, headers={"X-Api-Key": record.api_key}) as client:
        yield ratio(
            "console_page",
            lambda: console.get(f"/_ftsim/ui/run/{job}").raise_for_status(),
            lambda: client.get(f"/v1/{job}/checkpoints", params={"pageSize": 10}).raise_for_status(),
            10,
            rounds=25,
        )


def console_step(stand: Stand) -> Iterator[Result]:
    """CPU time of the server for a step, with the run's page open against closed, in alternate runs.

    The page was opened before and looks again as a browser does; a run is so long that each of its looks comes in it.
    """
    client, pid = stand.client("bench-seen"), stand.server.pid
    job = f"accounts/{stand.server.account_id}/rlorTrainerJobs/bench-seen"
    for _ in range(20):
        stand.step(client)
    opened, closed = [], []
    seen, over = threading.Event(), threading.Event()
    with browser(stand.server) as console:
        console.get(f"/_ftsim/ui/run/{job}").raise_for_status()
        looking = threading.Thread(target=_look, args=(console, job, seen, over))
        looking.start()
        try:
            for _ in range(ROUNDS):
                seen.set()
                opened.append(_cpu_of_a_step(stand, client, pid))
                seen.clear()
                closed.append(_cpu_of_a_step(stand, client, pid))
        finally:
            over.set()
            looking.join()
    one, other = statistics.median(opened), statistics.median(closed)
    parts = {"open_cpu_ms": one * 1e3, "closed_cpu_ms": other * 1e3}
    yield Result("console_step", one / other, "x", 1.05, parts=parts)


@contextlib.contextmanager
def browser(record: ServerRecord) -> Iterator[httpx.Client]:
    """A client that the console has let in."""
    with httpx.Client(base_url=record.url, follow_redirects=True, timeout=60, trust_env=False) as client:
        client.get(console_link(record)).raise_for_status()
        yield client


def _look(console: httpx.Client, job: str, seen: threading.Event, over: threading.Event) -> None:
    """Ask again and again for what an open page of a run asks for, while it is seen."""
    turn = 0
    while not over.wait(PAGE_S / 2):
        if not seen.is_set():
            continue
        turn += 1
        if turn % 2 == 0:
            console.get(f"/_ftsim/ui/run/{job}", headers={"HX-Request": "true"})
        if turn % 3 == 0:
            console.get(f"/_ftsim/ui/curves/{job}")


def _cpu_of_a_step(stand: Stand, client: object, pid: int) -> float:
    """CPU seconds of a process per step, over all steps of a run of RUN_S seconds."""
    before, started, steps = cpu_s(pid), time.monotonic(), 0
    while time.monotonic() - started < RUN_S:
        stand.step(client)
        steps += 1
    return (cpu_s(pid) - before) / steps


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has taken, all its threads together, by its own clock: /proc counts in hundredths."""
    return time.clock_gettime(~pid << 3 | 2)
