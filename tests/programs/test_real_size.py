"""A model of real size goes through the whole flow: trained, killed, resumed, promoted, served, in bounded memory."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from emulator.state.server_record import announced
from ftsim.process.environment import PACKAGE_ROOT

HERE = PACKAGE_ROOT / "fixtures/real_size"
NAME = "accounts/local/models/half-billion"
GB = 2**30
LARGEST = 12 * GB


class Programs:
    """Starts programs under `ftsim run` on one state folder, and ends what is left of them."""

    def __init__(self, folder: Path, here: Path) -> None:
        self.state = here / "state"
        self._folder, self._here = folder, here
        self._started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> "Programs":
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._started:
            one.kill()
            one.wait()
            if one.stdout is not None:
                one.stdout.close()
        if (record := announced(self.state)) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(record.pid, signal.SIGTERM)

    def start(self, program: str) -> "subprocess.Popen[str]":
        options = ["--state-dir", str(self.state), "--model", f"{NAME}={self._folder}"]
        command = [sys.executable, "-m", "ftsim", "run", *options, str(HERE / program), str(self._folder)]
        environment = os.environ | {"PYTHONPATH": str(PACKAGE_ROOT)}
        self._started.append(
            subprocess.Popen(command, cwd=self._here, env=environment, text=True, stdout=subprocess.PIPE)
        )
        return self._started[-1]

    def finish(self, program: str) -> Any:
        """Run a program to its end; returns its last line."""
        told, _ = (one := self.start(program)).communicate(timeout=600)
        assert one.returncode == 0
        return json.loads(told.splitlines()[-1])


class Peaks:
    """The most resident memory of each server of a state folder, in bytes by process, noted while it runs."""

    def __init__(self, state: Path) -> None:
        self._state, self._done = state, threading.Event()
        self.found: dict[int, int] = {}
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Peaks":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.1):
            if (record := announced(self._state)) is None:
                continue
            with contextlib.suppress(OSError):
                told = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{record.pid}/status").read_text())
                if told:
                    self.found[record.pid] = int(told[1]) * 1024


def steps(cwd: Path) -> list[dict[str, Any]]:
    file = cwd / "run/metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [line for line in lines if "loss" in line]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of memory from /proc")
def test_half_a_billion_weights_are_trained_killed_resumed_promoted_and_served(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    subprocess.run([sys.executable, str(HERE / "make_model.py"), str(folder)], check=True, capture_output=True)
    began = time.monotonic()
    with Programs(folder, tmp_path) as programs, Peaks(programs.state) as peaks:
        first = programs.start("train.py")
        while len(before := steps(tmp_path)) < 12:
            assert first.poll() is None, first.communicate()[0]
            time.sleep(0.1)
        (serves,) = peaks.found
        for pid in (first.pid, serves):
            os.kill(pid, signal.SIGKILL)
        first.wait()

        done = programs.finish("train.py")
        assert (done["steps"], done["resumed_from"], done["model"]["state"]) == (20, "step-10", "READY")
        after = steps(tmp_path)
        assert [line["loss"] for line in after if line["step"] == 11] == [before[10]["loss"]], "it is the same run"
        assert after[-1]["loss"] < before[0]["loss"] / 2

        base, tuned = programs.finish("serve.py")
    assert tuned < base - 3
    figures = {"peaks_gb": [round(one / GB, 2) for one in peaks.found.values()], "s": round(time.monotonic() - began)}
    print(json.dumps(figures | {"losses": [line["loss"] for line in after], "nats": [base, tuned]}))
    assert max(peaks.found.values()) < LARGEST
