"""A worker as the emulator sees it: one process or a group of ranks, started afresh; calls one at a time.

Nothing of the emulator's memory goes along (it is no fork), and neither ends without the other noticing: when the
emulator goes, by whatever signal, its workers read the end of their connections; when a process of a worker goes, the
call under way, or the next one, raises `TrainerLost`, and the next trainer starts all of the worker anew. A group is
started by torchrun, which ends all ranks when one of them has died. (It would start them again, too: they would meet at
the store of those before, and gloo may connect to addresses of the dead.) Ranks on several machines: `spread.py`.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

from emulator.core.errors import TrainerLost
from ftsim.compute.workers.messages import GIVES_BACK, Call, Failure, Open, Settings
from ftsim.compute.workers.process import ADDRESS

PATIENCE_S = 180.0
"""Seconds that processes may take to import what they need."""
_LOOK_S = 0.2
_ENDING_S = 10.0
_APART_S = 30.0
"""Seconds that ranks may go on once one has failed: what all find wrong, all tell at once."""


class Channel(Protocol):
    """A connection to a rank."""

    def send(self, message: Any, /) -> None: ...
    def recv(self) -> Any: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...


class Worker:
    """One process, or `ranks` of them, with any number of trainers, which take turns."""

    def __init__(self, settings: Settings, ranks: int = 1) -> None:
        self._settings = settings
        self._ranks = ranks
        self._lock = threading.Lock()
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._connections: Sequence[Channel] = []
        self._life = 0
        self.trainers: set[int] = set()
        self.pids: list[int] = []
        """Process ids by rank; of those that died last, until they are started anew."""

    def start(self) -> None:
        """Start the processes, and wait until they can compute; raises TrainerLost. Where they run, nothing is done."""
        with self._lock:
            self._begin()

    def open(self, message: Open) -> int:
        """Make a trainer; returns the life of the worker that it is in."""
        with self._lock:
            self._begin()
            self._ask(message)
            self.trainers.add(message.trainer)
            return self._life

    def call(self, life: int, message: Call) -> Any:
        """The answer to a message; raises what the trainer raised, and TrainerLost where the life of it is over."""
        with self._lock:
            if life != self._life or not self._connections:
                raise TrainerLost("its process is gone")
            return self._ask(message)

    def beside(self, life: int, message: Call) -> "Connection[Any, Any]":
        """Ask for what the process does beside its next calls; how it went is told on the connection, once."""
        with self._lock, socket.socket(socket.AF_UNIX) as meeting:
            if life != self._life or self._folder is None:
                raise TrainerLost("its process is gone")
            address = self._folder / "beside"
            meeting.bind(str(address))
            try:
                meeting.listen(1)
                self._ask(replace(message, named={"address": str(address)}))
                return Connection(meeting.accept()[0].detach())  # it has come before it answered
            finally:
                address.unlink(missing_ok=True)

    def close(self) -> None:
        """End the processes, once what they are at is done; safe to call twice."""
        with self._lock:
            self._lose()

    def _ask(self, message: Open | Call) -> Any:
        """Ask all ranks and wait for all; the first one answers for them. Where another fails alone, all are lost."""
        try:
            for connection in self._connections:
                connection.send(message)
            answers = self._answers()
        except (EOFError, OSError) as error:
            self._lose()
            raise TrainerLost(f"its process ended{self._how()}") from error
        if isinstance(answers[0], Failure):
            raise answers[0].error()
        apart = next((answer for answer in answers if isinstance(answer, Failure)), None)
        if apart is not None:
            self._lose()
            raise TrainerLost(f"one of its ranks failed alone: {apart.name}: {apart.words}")
        return answers[0]

    def _answers(self) -> list[Any]:
        """The answers of all ranks; raises EOFError as soon as one is gone, whatever the others wait for."""
        answers: dict[int, Any] = {}
        while len(answers) < len(self._connections):
            missing: list[Any] = [one for rank, one in enumerate(self._connections) if rank not in answers]
            ready = wait(missing, _APART_S if any(isinstance(one, Failure) for one in answers.values()) else None)
            if not ready:
                raise ConnectionError("one rank failed, and the others wait for it")
            for rank, connection in enumerate(self._connections):
                if connection in ready:
                    answers[rank] = connection.recv()
        return [answers[rank] for rank in range(len(self._connections))]

    def _begin(self) -> None:
        if self._connections:
            return
        self._life += 1
        self.trainers.clear()
        try:
            self._connections = self._launched()
            for connection in self._connections:
                connection.send(self._settings)
            ready = self._answers()
        except (EOFError, OSError) as error:
            self._lose()
            raise TrainerLost(f"its process did not start{self._how()}: {error}") from error
        failed = next((answer for answer in ready if isinstance(answer, Failure)), None)
        if failed is not None:
            self._lose()
            raise failed.error()

    def _launched(self) -> Sequence[Channel]:
        """Start the processes; returns a connection to each rank. Raises OSError, EOFError."""
        self._folder = Path(tempfile.mkdtemp(prefix="ftsim-worker-"))  # 0700: nobody else connects
        with socket.socket(socket.AF_UNIX) as meeting:
            meeting.bind(str(self._folder / "socket"))
            meeting.listen(self._ranks)
            meeting.settimeout(_LOOK_S)
            self._process = _started(self._ranks, self._folder / "socket")
            return self._met(self._process, meeting)

    def _met(self, process: "subprocess.Popen[bytes]", meeting: socket.socket) -> "list[Connection[Any, Any]]":
        """A connection to each rank."""
        found: dict[int, tuple[int, Connection[Any, Any]]] = {}
        for _ in range(int(PATIENCE_S / _LOOK_S)):
            with contextlib.suppress(TimeoutError):
                connection: Connection[Any, Any] = Connection(meeting.accept()[0].detach())
                rank, pid = connection.recv()
                found[rank] = pid, connection
            if len(found) == self._ranks:
                self.pids = [found[rank][0] for rank in range(self._ranks)]
                return [found[rank][1] for rank in range(self._ranks)]
            if process.poll() is not None:
                raise ConnectionError("it ended at once")
        raise ConnectionError(f"it did not come within {PATIENCE_S:g} s")

    def _lose(self) -> None:
        """Let go of the processes: they read the end of their connections, and go."""
        for connection in self._connections:
            connection.close()
        self._connections = []
        self._end()

    def _end(self) -> None:
        """Wait until the processes have ended, and force those that do not."""
        if self._process is not None:
            ended([self._process], told=True)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _how(self) -> str:
        status = self._process.poll() if self._process is not None else None
        if status is None or self._ranks > 1:  # torchrun has a status of its own
            return ""
        return f" by signal {-status}" if status < 0 else f" with status {status}"


def _started(ranks: int, address: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        command(ranks),
        env=environment(address, ranks),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # signals of a terminal are for the emulator
    )


def command(ranks: int = 1) -> list[str]:
    """The command of a worker: this Python, with the modules that are found here."""
    words = f"import sys; sys.path[:] = {sys.path!r}; from ftsim.compute.workers.process import main; main()"
    rank = [sys.executable, "-c", words]
    if ranks == 1:
        return rank
    group = ["--standalone", f"--nproc-per-node={ranks}", "--max-restarts=0", "--monitor-interval=0.1"]
    return [sys.executable, "-m", "torch.distributed.run", *group, "--no-python", *rank]


def environment(address: Path, ranks: int = 1) -> Mapping[str, str]:
    """The variables of a worker; without a number of threads, torchrun has a word to say on it."""
    usual = {"OMP_NUM_THREADS": "1", **(GIVES_BACK if ranks > 1 else {})}
    return {**usual, **os.environ, ADDRESS: str(address)}


def ended(processes: "Sequence[subprocess.Popen[bytes]]", *, told: bool = False) -> None:
    """Wait for processes that are to end, `told` if they know already; those that do not are ended."""
    signals = (None, signal.SIGTERM, signal.SIGKILL) if told else (signal.SIGTERM, signal.SIGKILL)
    for force in signals:
        for process in processes:
            if force is not None and process.poll() is None:
                process.send_signal(force)
        until = time.monotonic() + _ENDING_S
        with contextlib.suppress(subprocess.TimeoutExpired):
            for process in processes:
                process.wait(max(0.0, until - time.monotonic()))
            return
