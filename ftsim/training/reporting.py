"""The figures of a run told elsewhere too: TensorBoard, Weights & Biases, trackio, the emulator's console.

Each goes through that project's own writer, into files on this machine; nothing is sent to another one. Weights &
Biases is offline unless WANDB_MODE says otherwise (`wandb sync` sends a run later). metrics.jsonl stays the log of a
run, and a writer that fails is given up with a line on the terminal: a run must not end for want of a picture.
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import httpx

from ftsim.training.errors import ConfigError

WRITERS = ("tensorboard", "trackio", "wandb")
BOOKKEEPING = frozenset({"step", "epoch", "data_consumed", "tokens"})
"""Figures that count what was done and are no curve."""
METRICS_URL = "FTSIM_METRICS_URL"
"""Where an emulator takes a run's figures; `ftsim run` and `ftsim train` set it, the service has no such address."""
EVERY_S = 1.0


class Reporter(Protocol):
    """Takes the figures of a run, step by step."""

    def add(self, step: int, figures: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


def writers_named(text: str | None) -> list[str]:
    """Returns the writers that `report_to` names, with commas between them; raises ConfigError."""
    names = [name.strip() for name in (text or "").split(",") if name.strip()]
    for name in names:
        if name not in WRITERS:
            raise ConfigError(f"report_to {name!r} is not one of {', '.join(WRITERS)}")
        if find_spec(name) is None:
            raise ConfigError(f"report_to {name!r} needs the package {name}: pip install {name}")
    return names


def reporters(report_to: str | None, folder: Path, title: str, done: int, owner: str | None) -> "Reports":
    """Returns what the run reports to, after `done` steps; `owner` is the full name of its job or session.

    Raises ConfigError for a writer that cannot begin.
    """
    made: dict[str, Reporter] = {}
    for name in writers_named(report_to):
        try:
            made[name] = _WRITERS[name](folder, title, done)
        except Exception as error:  # whatever a project's writer raises
            raise ConfigError(f"report_to {name!r}: {' '.join(str(error).split())}") from error
    url, service = os.environ.get(METRICS_URL, ""), os.environ.get("FIREWORKS_BASE_URL", "")
    if owner and service and url.startswith(service):  # another service's key is none of the emulator's business
        made["the console"] = _Console(url, owner)
    return Reports(made)


class Reports:
    """All that a run reports to."""

    def __init__(self, made: Mapping[str, Reporter]) -> None:
        self._made = dict(made)
        self.say: Callable[[str], None] = lambda text: None

    def add(self, entry: Mapping[str, Any]) -> None:
        """Tell everybody the figures of an entry of metrics.jsonl."""
        figures = dict(plain(entry))
        if figures:
            self._each(lambda reporter: reporter.add(int(entry["step"]), figures))

    def close(self) -> None:
        self._each(lambda reporter: reporter.close())
        self._made.clear()

    def _each(self, call: Callable[[Reporter], None]) -> None:
        for name, reporter in list(self._made.items()):
            try:
                call(reporter)
            except Exception as error:  # whatever a project's writer raises
                del self._made[name]
                self.say(f"nothing more is reported to {name}: {' '.join(str(error).split()) or type(error).__name__}")


def plain(entry: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """Returns the numbers of an entry by name, those of a mapping in it as `name/part`."""
    found: list[tuple[str, float]] = []
    for name, value in entry.items():
        if isinstance(value, Mapping):
            found += plain(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool) and (prefix or name not in BOOKKEEPING):
            found.append((f"{prefix}{name}", float(value)))
    return found


class TensorBoard:
    """An event file in `folder`, by TensorBoard's own writer; needs neither torch nor TensorFlow."""

    def __init__(self, folder: Path, done: int = 0) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        self._writer = EventFileWriter(str(folder))
        # TensorBoard then leaves out what an earlier file holds of the steps that are taken again.
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._writer.add_event(self._event(wall_time=time.time(), step=done + 1, session_log=start))

    def add(self, step: int, figures: Mapping[str, float], wall_time: float | None = None) -> None:
        values = [self._summary.Value(tag=name, simple_value=value) for name, value in figures.items()]
        at = time.time() if wall_time is None else wall_time
        self._writer.add_event(self._event(wall_time=at, step=step, summary=self._summary(value=values)))

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    """An offline run of Weights & Biases for each process; those of one folder are a group."""

    def __init__(self, folder: Path, title: str) -> None:
        import wandb

        settings = wandb.Settings(silent=True, console="off", x_disable_stats=True, x_disable_meta=True)
        mode: Any = os.environ.get("WANDB_MODE", "offline")
        project = os.environ.get("WANDB_PROJECT", "ftsim")
        self._run = wandb.init(
            dir=str(folder), mode=mode, project=project, group=str(folder), name=title, settings=settings
        )

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        self._run.finish()


class _Trackio:
    """A run in trackio's own folder (TRACKIO_DIR), for each process; those of one folder are a group."""

    def __init__(self, folder: Path, title: str) -> None:
        import trackio

        project = os.environ.get("TRACKIO_PROJECT", "ftsim")
        with contextlib.redirect_stdout(sys.stderr):  # it speaks, and stdout may be data
            self._run = trackio.init(
                project=project,
                group=str(folder),
                name=f"{title}-{time.time_ns()}",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        self._finish = trackio.finish

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        with contextlib.redirect_stdout(sys.stderr):
            self._finish()


class _Console:
    """The emulator that the run trains on, which draws what no trainer measures, such as a reward."""

    def __init__(self, url: str, owner: str) -> None:
        self._owner, self._points, self._sent = owner, list[dict[str, Any]](), time.monotonic()
        key = os.environ.get("FIREWORKS_API_KEY", "")
        # Reading the authorities of TLS takes longer than all that is told, and an emulator has none.
        verify = not url.startswith("http://")
        self._client = httpx.Client(headers={"X-Api-Key": key}, timeout=5, trust_env=False, verify=verify)
        self._url = url

    def add(self, step: int, figures: Mapping[str, float]) -> None:
        self._points += [{"key": name, "step": step, "value": value} for name, value in figures.items()]
        if time.monotonic() - self._sent > EVERY_S:
            self._send()

    def close(self) -> None:
        with contextlib.closing(self._client):
            self._send()

    def _send(self) -> None:
        points, self._points, self._sent = self._points, [], time.monotonic()
        if points:
            self._client.post(self._url, json={"owner": self._owner, "points": points}).raise_for_status()


_WRITERS: Mapping[str, Callable[[Path, str, int], Reporter]] = {
    "tensorboard": lambda folder, title, done: TensorBoard(folder / "tensorboard", done),
    "trackio": lambda folder, title, done: _Trackio(folder, title),
    "wandb": lambda folder, title, done: _Wandb(folder, title),
}
