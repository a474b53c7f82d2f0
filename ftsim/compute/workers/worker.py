"""A worker as the emulator sees it: a process started afresh, a connection to it, calls one at a time.

Nothing of the emulator's memory goes along (it is no fork), and neither ends without the other noticing: when the
emulator goes, by whatever signal, its workers read the end of their connection; when a process of a worker goes, the
call under way, or the next one, raises `TrainerLost`.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from emulator.core.errors import TrainerLost
from ftsim.compute.workers.messages import Call, Failure, Open, Settings
from ftsim.compute.workers.process import ADDRESS

PATIENCE_S = 120.0
"""Seconds that a process may take to import what it needs."""
_LOOK_S = 0.2
_ENDING_S = 10.0


class Worker:
    """One process, with any number of trainers on it, which take turns."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._folder = Path(tempfile.mkdtemp(prefix="ftsim-worker-"))  # 0700: nobody else connects
        self._meeting = socket.socket(socket.AF_UNIX)
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection[Any, Any] | None = None
        self.lost = False
        self.trainers: set[int] = set()
        self.pid = 0

    def start(self) -> None:
        """Start the process and wait until it can compute; raises TrainerLost. Once it runs, nothing is done."""
        with self._lock:
            if self._process is None:
                self._start()

    def call(self, message: Open | Call) -> Any:
        """The answer to a message; raises what the trainer raised, and TrainerLost where the process is gone."""
        with self._lock:
            if self.lost or self._connection is None:
                raise TrainerLost("its process is gone")
            try:
                self._connection.send(message)
                answer = self._connection.recv()
            except (EOFError, OSError) as error:
                self._end()
                raise TrainerLost(f"its process ended{self._how()}") from error
        if isinstance(answer, Failure):
            raise answer.error()
        return answer

    def close(self) -> None:
        """End the process, once what it is at is done; safe to call twice."""
        with self._lock:
            self._end()

    def _start(self) -> None:
        address = self._folder / "socket"
        self._meeting.bind(str(address))
        self._meeting.listen()
        self._meeting.settimeout(_LOOK_S)
        self._process = subprocess.Popen(
            command(),
            env=environment(address),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # signals of a terminal are for the emulator
        )
        try:
            self._connection = self._accepted(self._process)
            _, self.pid = self._connection.recv()
            self._connection.send(self._settings)
            failed = self._connection.recv()
        except (EOFError, OSError) as error:
            self._end()
            raise TrainerLost(f"its process did not start{self._how()}: {error}") from error
        if isinstance(failed, Failure):
            self._end()
            raise failed.error()

    def _accepted(self, process: "subprocess.Popen[bytes]") -> "Connection[Any, Any]":
        for _ in range(int(PATIENCE_S / _LOOK_S)):
            with contextlib.suppress(TimeoutError):
                return Connection(self._meeting.accept()[0].detach())
            if process.poll() is not None:
                raise ConnectionError("it ended at once")
        raise ConnectionError(f"it did not come within {PATIENCE_S:g} s")

    def _end(self) -> None:
        self.lost = True
        self._meeting.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None and self._process.poll() is None:
            try:
                self._process.wait(_ENDING_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _how(self) -> str:
        status = self._process.poll() if self._process is not None else None
        return "" if status is None else f" by signal {-status}" if status < 0 else f" with status {status}"


def command() -> list[str]:
    """The command of a rank: this Python, with the modules that are found here."""
    words = f"import sys; sys.path[:] = {sys.path!r}; from ftsim.compute.workers.process import main; main()"
    return [sys.executable, "-c", words]


def environment(address: Path) -> Mapping[str, str]:
    """The variables of a rank."""
    return {**os.environ, ADDRESS: str(address)}
