"""An engine as a replica sees it: a process that is started, asked, and heard in a thread."""

import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from emulator.backend import BackendError, ReplicaClosed
from emulator.core import own_warnings
from ftsim.compute.vllm import installed

_PROGRAM = Path(__file__).with_name("program.py")
PATIENCE_S = 600.0
"""Seconds that an engine may take to open a model."""
_ENDING_S = 10.0
_LAST_WORDS = 400


class EngineProcess:
    """One engine with one model. `hears` gets what it says of requests, and `lost` an error once it is gone."""

    def __init__(
        self,
        opening: Mapping[str, Any],
        place: Path,
        hears: Callable[[Mapping[str, Any]], None],
        lost: Callable[[BackendError], None],
    ) -> None:
        """Start it, and wait until it has computed a token; `place` is a folder for its log. Raises `BackendError`."""
        self._log = place / "engine.log"
        self._hears, self._lost = hears, lost
        self._numbers = itertools.count()
        self._loads: dict[int, Future[None]] = {}
        self._sending = threading.Lock()
        self._ended = False
        self._process, self._connection = self._started()
        try:
            self._open(opening)
        except BaseException:
            self._end()
            self._connection.close()
            raise
        self._thread = threading.Thread(target=own_warnings.apart(self._listen), name="ftsim-vllm", daemon=True)
        self._thread.start()

    def ask(self, message: Mapping[str, Any]) -> None:
        """Send a message; one that does not arrive is answered by `lost`."""
        with self._sending, contextlib.suppress(OSError):
            self._connection.send_bytes(json.dumps(message).encode())

    def load(self, kind: str, folder: Path, *, drain: bool) -> None:
        """Serve weights or an adapter from now on; returns when it does, raises `BackendError` when it does not."""
        number, done = next(self._numbers), Future[None]()
        with self._sending:
            if self._ended:
                raise ReplicaClosed()
            self._loads[number] = done
        self.ask({"op": "load", "number": number, "kind": kind, "folder": str(folder), "drain": drain})
        done.result()

    def close(self) -> None:
        """End the process; whatever it was asked fails."""
        self._end()
        self._thread.join()
        self._connection.close()

    def _started(self) -> "tuple[subprocess.Popen[bytes], Connection[Any, Any]]":
        ours, theirs = socket.socketpair()
        command = installed.python()
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        with ours, theirs, self._log.open("wb") as log:
            process = subprocess.Popen(
                [command, "-I", str(_PROGRAM)],
                stdin=theirs.fileno(),
                stdout=log,
                stderr=log,
                cwd=self._log.parent,
                env=environment if command != sys.executable else None,
                start_new_session=True,  # signals of a terminal are for the emulator
            )
            return process, Connection(ours.detach())

    def _open(self, opening: Mapping[str, Any]) -> None:
        try:
            self._connection.send_bytes(json.dumps(opening).encode())
            if not self._connection.poll(PATIENCE_S):
                raise BackendError(f"vLLM did not open the model within {PATIENCE_S:g} s", "server")
            answer = json.loads(self._connection.recv_bytes())
        except (EOFError, OSError) as error:
            raise BackendError(f"vLLM ended while it opened the model: {self._last_words()}", "server") from error
        if "failed" in answer:
            raise BackendError(f"vLLM cannot serve this model: {answer['failed']}")

    def _listen(self) -> None:
        try:
            while True:
                message = json.loads(self._connection.recv_bytes())
                if "loaded" not in message:
                    self._hears(message)
                elif "failed" in message:
                    error = BackendError(f"vLLM does not load this: {message['failed']}")
                    self._loads.pop(message["loaded"]).set_exception(error)
                else:
                    self._loads.pop(message["loaded"]).set_result(None)
        except (EOFError, OSError):
            pass
        with self._sending:
            closed, self._ended = self._ended, True
        gone = ReplicaClosed() if closed else BackendError(f"vLLM ended: {self._last_words()}", "server")
        for waiting in list(self._loads.values()):
            waiting.set_exception(gone)
        self._lost(gone)

    def _end(self) -> None:
        with self._sending:
            self._ended = True
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self._connection.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)  # both ends read it, and the thread here ends
        try:
            self._process.wait(_ENDING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _last_words(self) -> str:
        """The end of what it wrote, and how it ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        words = self._log.read_text(errors="replace").strip() if self._log.exists() else ""
        return f"status {self._process.poll()}: {words[-_LAST_WORDS:]}"
