"""Starting, watching and killing the demo's training programs."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ftsim.process.environment import PACKAGE_ROOT

T = TypeVar("T")
POLL_S = 0.01
PATIENCE_S = 600.0
_WENT_ON = re.compile(r"goes on from (\S+) after (\d+) rows")
_COMPLETE = "complete already"


class DemoError(Exception):
    """The demo cannot go on; the message says where to look."""


@dataclass(frozen=True)
class Resumed:
    """The checkpoint that a rerun said it went on from."""

    row: str
    data_consumed: int


@dataclass(frozen=True)
class Program:
    """A script under `ftsim run`; its process is the training process itself."""

    process: "subprocess.Popen[bytes]"
    log: Path
    folder: Path

    @classmethod
    def start(cls, folder: Path, state_dir: Path, script: str, log: str) -> "Program":
        """Start `ftsim run SCRIPT` in `folder`, its output in a file."""
        path = folder / log
        command = [sys.executable, "-m", "ftsim", "run", "--state-dir", str(state_dir), script]
        with path.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=folder, env=environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        return cls(process, path, folder)

    def reached(self, log_path: str, step: int, saved: str) -> bool:
        """True once `step` steps are logged and the checkpoint is on record; raises `DemoError` after the run's end."""
        if self.process.poll() is not None:
            raise DemoError(f"{self.log.name} ended before it could be killed; its end:\n{self.tail()}")
        return last_step(self.folder / log_path) >= step and saved in cursors(self.folder / log_path)

    def kill(self, log_path: str) -> int:
        """SIGKILL; returns the last step logged."""
        self.stop()
        return last_step(self.folder / log_path)

    def finish(self) -> None:
        """Wait for a clean end; raises `DemoError` with the end of the log otherwise."""
        try:
            status = self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.stop()
            raise DemoError(f"{self.log.name} did not end within {PATIENCE_S:.0f} s") from None
        if status:
            raise DemoError(f"{self.log.name} ended with status {status}; its end:\n{self.tail()}")

    @property
    def killed(self) -> bool:
        return self.process.returncode == -signal.SIGKILL

    def resumed(self) -> Resumed | None:
        """The checkpoint that the program said it resumed from, None when it started afresh."""
        match = _WENT_ON.search(self.log.read_text("utf-8"))
        return Resumed(match[1], int(match[2])) if match else None

    def was_complete_the_second_time(self) -> bool:
        return _COMPLETE in self.log.read_text("utf-8")

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def tail(self, lines: int = 15) -> str:
        return "\n".join(self.log.read_text("utf-8", errors="replace").splitlines()[-lines:])


def environment() -> dict[str, str]:
    """One thread a process: several run at once, and spinning threads would only slow each other down."""
    path = os.pathsep.join(filter(None, (str(PACKAGE_ROOT), os.environ.get("PYTHONPATH"))))
    return {"OMP_NUM_THREADS": "1", "TERM": "dumb", **os.environ, "PYTHONPATH": path}


def last_step(log_path: Path) -> int:
    """The newest step in metrics.jsonl, 0 when there is none."""
    return int(max((entry["step"] for entry in metrics(log_path)), default=0))


def metrics(log_path: Path) -> list[dict[str, float]]:
    """The whole lines of metrics.jsonl."""
    try:
        lines = (log_path / "metrics.jsonl").read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines]


def cursors(log_path: Path) -> dict[str, int]:
    """dataloader.json: rows consumed by checkpoint name."""
    try:
        return dict(json.loads((log_path / "dataloader.json").read_bytes()))
    except FileNotFoundError:
        return {}


def wait_for(look: Callable[[], T | None], what: str) -> T:
    """Poll until `look` returns something true; raises `DemoError` after a while."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := look()):
        if time.monotonic() > deadline:
            raise DemoError(f"waited {PATIENCE_S:.0f} s for {what} in vain")
        time.sleep(POLL_S)
    return found
