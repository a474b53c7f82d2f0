"""Programs on a shared clock end as they do without one, only sooner: nobody who could run is outrun."""

import json
import os
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from emulator.light import LightBackend
from emulator.server import Emulator
from emulator.state.server_record import ServerRecord
from ftsim.process import forward, run
from ftsim.process.environment import PACKAGE_ROOT
from ftsim.shared_clock import SHIMS, VARIABLE, package, python_path
from ftsim.tools.bench import waiting

HURRY = 0.02
"""Seconds that a unit of these programs' waits takes without a shared clock; with one it takes sixty."""
PROGRAMS = {
    "a thread that computes": """
        def compute():
            for number in range(3_000_000):
                number * number
            told.append("computed")
        thread = threading.Thread(target=compute)
        thread.start()
        time.sleep(20 * unit)
        told.append("slept")
        thread.join()
    """,
    "native code that computes": """
        import hashlib
        def compute():
            hashlib.pbkdf2_hmac("sha256", b"a", b"b", 400_000)
            told.append("computed")
        thread = threading.Thread(target=compute)
        thread.start()
        time.sleep(20 * unit)
        told.append("slept")
        thread.join()
    """,
    "asyncio": """
        async def one(number):
            await asyncio.sleep(number * unit)
            told.append(await asyncio.to_thread(lambda: (time.sleep(2 * unit), number)[1]))
        async def main():
            await asyncio.gather(*(one(number) for number in (5, 1, 3)))
            try:
                await asyncio.wait_for(asyncio.Event().wait(), 4 * unit)
            except TimeoutError:
                told.append("late")
        asyncio.run(main())
    """,
    "queues, events, conditions, executors": """
        from concurrent.futures import ThreadPoolExecutor
        import queue
        mail, bell, lock = queue.Queue(), threading.Event(), threading.Lock()
        def sender():
            for number in range(3):
                time.sleep(2 * unit)
                mail.put(number)
            bell.set()
        threading.Thread(target=sender, daemon=True).start()
        for _ in range(5):
            try:
                told.append(mail.get(timeout=1.5 * unit))
            except queue.Empty:
                told.append("empty")
        told.append(bell.wait(9 * unit))
        lock.acquire()
        threading.Timer(2 * unit, lock.release).start()
        told += [lock.acquire(timeout=1 * unit), lock.acquire(timeout=9 * unit)]
        with ThreadPoolExecutor(2) as pool:
            told += pool.map(lambda number: (time.sleep(number * unit), number)[1], (3, 1, 2))
    """,
    "two processes": """
        child = "import sys, time; time.sleep(float(sys.argv[1])); print('child', flush=True)"
        def start(units):
            command = [sys.executable, "-c", child, str(units * unit)]
            return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        quick, slow = start(15), start(40)
        told.append(quick.communicate(timeout=120 * unit)[0])
        try:
            slow.wait(5 * unit)
        except subprocess.TimeoutExpired:
            told.append("not yet")
        told += [slow.communicate()[0], slow.returncode]
        import multiprocessing
        context = multiprocessing.get_context("fork")
        mail = context.Queue()
        def send():
            time.sleep(5 * unit)
            mail.put("forked")
        process = context.Process(target=send)
        process.start()
        told.append(mail.get())
        process.join()
    """,
}
FRAME = """
import asyncio, json, os, subprocess, sys, threading, time
told, unit, began, day = [], float(sys.argv[1]), time.monotonic(), time.time()
{program}
import datetime
assert abs(datetime.datetime.now().timestamp() - time.time()) < 1
print(json.dumps([told, time.monotonic() - began, time.time() - day]))
"""


def test_ten_saves_with_sleeps_are_asked_as_if_they_took_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(PACKAGE_ROOT))
    told = waiting.run("--fast-forward")
    asked = Counter(endpoint for endpoint, status in told["journal"] if status == 200)
    assert told["seconds"] > waiting.SAVES * waiting.SECONDS
    assert asked["save_weights"] == waiting.SAVES
    assert asked["session_heartbeat"] == told["seconds"] // 10, "its heart beats every ten seconds"


@pytest.mark.slow
def test_the_journal_is_that_of_a_program_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(PACKAGE_ROOT))
    forward, waited = (waiting.run(*options, saves=3, seconds=12) for options in (("--fast-forward",), ()))
    assert forward["journal"] == waited["journal"]


def test_an_emulator_that_runs_by_the_machines_time_is_not_put_on_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_LEAVING_S", 0.0)
    with Emulator(LightBackend(), state_dir=tmp_path) as emulator:
        record = ServerRecord(emulator.url, os.getpid(), emulator.api_key, emulator.account)
        assert forward.program_variables(tmp_path, record) == {}
        with pytest.raises(run.RunError, match="runs already, and --fast-forward would change it"):
            run.check_options(tmp_path, run.ServerOptions(fast_forward=True))


@pytest.fixture
def clock(tmp_path: Path) -> Path:
    file = tmp_path / "clock"
    package().Table.make(str(file))
    package().Table(str(file)).arm()
    return file


def end_of(program: str, unit: float, clock: Path | None = None) -> tuple[Any, float, float]:
    """Run a program; returns what it tells, and how long it took by its two clocks."""
    shared = {VARIABLE: str(clock), "PYTHONPATH": python_path(None)} if clock else {}
    command = [sys.executable, "-W", "error", "-c", FRAME.format(program=textwrap.dedent(program)), str(unit)]
    done = subprocess.run(command, env=os.environ | shared, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    told, steady, day = json.loads(done.stdout.splitlines()[-1])
    return told, steady, day


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_ends_as_it_does_without_a_shared_clock(name: str, clock: Path) -> None:
    began = time.monotonic()
    told, steady, day = end_of(PROGRAMS[name], 60.0, clock)
    assert steady > 60 > time.monotonic() - began, "it has waited by its own clock alone"
    assert steady == pytest.approx(day, abs=0.5)
    unit = 1.0 if "comput" in name else HURRY if "process" not in name else 0.05
    if "comput" not in name:
        slower = (end_of(PROGRAMS[name], unit * factor)[0] for factor in (1, 4, 16))  # the machine's time may be short
        assert told in slower
    else:
        assert told == ["computed", "slept"], "twenty minutes did not pass while a thread computed"


def test_a_socket_of_somebody_else_is_waited_for(clock: Path) -> None:
    """The other end answers by the machine's time, so the program's timeouts run by it too."""
    program = """
        away = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", "import socket, time; s = socket.create_server(('127.0.0.1', 0)); "
             "print(s.getsockname()[1], flush=True); c = s.accept()[0]; time.sleep(0.3); c.sendall(b'answer')"],
            stdout=subprocess.PIPE, text=True,
        )
        port = int(away.stdout.readline())
        async def main():
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            told.append((await asyncio.wait_for(reader.read(6), 100)).decode())
            writer.close()
        asyncio.run(main())
        away.wait()
        away.stdout.close()
    """
    told, steady, _ = end_of(program, 1.0, clock)
    assert told == ["answer"]
    assert steady < 50


def test_a_clock_that_is_made_anew_is_joined_by_those_who_shared_it(clock: Path) -> None:
    """An emulator that is started again empties the file under a program that lives on."""
    again = f"sys.path.insert(0, {str(SHIMS)!r}); from ftsim_forward.table import Table; file = {str(clock)!r}"
    program = f"""
        time.sleep(300)
        {again}
        Table.make(file)
        Table(file).arm()
        time.sleep(300)
        told.append("slept")
    """
    began = time.monotonic()
    told, steady, _ = end_of(program, 1.0, clock)
    assert told == ["slept"]
    assert steady > 600 > 60 > time.monotonic() - began
