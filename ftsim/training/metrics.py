"""The log of a run, for people: metrics.jsonl, a loss curve, and lines on the terminal."""

import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ftsim.training.checkpoints.cursors import replace_file
from ftsim.training.errors import ConfigError
from ftsim.training.pictures import svg
from ftsim.training.reporting import Reports, reporters

FILE_NAME = "metrics.jsonl"
UNDONE_NAME = "metrics.undone.jsonl"
LOCK_NAME = ".lock"
LOSSES = {"loss": "training", "eval_loss": "held out"}


class RunLog:
    """metrics.jsonl of one `log_path`, a progress bar, and the lock that keeps a second run out of the folder."""

    def __init__(self, log_path: str | os.PathLike[str], title: str, report_to: str | None = None) -> None:
        self.folder = Path(log_path)
        self.title = title
        self.report_to = report_to
        self._reports = Reports({})
        self.console = Console(file=sys.stderr, highlight=False)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )

    def __enter__(self) -> Self:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock_file = (self.folder / LOCK_NAME).open("ab")
            self._file = self._open()
        except OSError as error:
            raise ConfigError(f"log_path {self.folder} cannot be written: {error.strerror}") from error
        try:
            _lock(self._lock_file.fileno())
        except OSError as error:
            self._close()
            raise ConfigError(f"another process is running with log_path {self.folder}: wait, or end it") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        self._reports.close()
        self._close()

    def say(self, text: str) -> None:
        self.console.print(f"[bold]{self.title}[/bold] {text}", soft_wrap=True)

    def begin(self, step: int, total: int, owner: str | None = None) -> None:
        """Put aside what was logged beyond `step`, whose steps are taken again, and show the bar.

        `owner` is the full name of the run's job or session, under which a console shows its figures.
        """
        entries = self.entries()
        kept = [entry for entry in entries if entry.get("step", 0) <= step]
        self._put_aside([entry for entry in entries if entry.get("step", 0) > step])
        # Whole or not at all: whoever dies here must find the log again.
        replace_file(self.folder / FILE_NAME, b"".join(map(_line, kept)))
        self._file.close()
        self._file = self._open()
        self._reports = reporters(self.report_to, self.folder, self.title, step, owner)
        self._reports.say = self.say
        self._task = self._bar.add_task(self.title, total=total, completed=step, note="")
        self._bar.start()

    def add(self, entry: Mapping[str, Any], *, step_done: bool = True) -> None:
        """Append one entry; it must hold `step`, the number of steps done."""
        self._write(entry)
        self._reports.add(entry)
        note = " ".join(
            f"{name} {entry[name]:.4f}" for name in ("reward", "loss", "eval_loss") if entry.get(name) is not None
        )
        self._bar.update(self._task, completed=entry["step"], note=note)

    def entries(self) -> list[dict[str, Any]]:
        """All whole entries; a line torn by a crash is passed over."""
        self._file.seek(0)
        found = []
        for line in self._file:
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found

    def draw(
        self, file_name: str = "loss.svg", curves: Mapping[str, str] = LOSSES, ylabel: str = "loss per token"
    ) -> Path:
        """Draw everything logged so far, one curve per figure named in `curves`; nothing when that was drawn before.

        Returns the picture, an SVG whatever ending the name has.
        """
        picture = (self.folder / file_name).with_suffix(".svg")
        if not picture.exists() or picture.stat().st_mtime_ns <= os.fstat(self._file.fileno()).st_mtime_ns:
            points = {label: curve(self.entries(), name) for name, label in curves.items()}
            picture.write_text(svg(points, self.title, "step", ylabel), encoding="utf-8")
        return picture

    def _put_aside(self, entries: list[dict[str, Any]]) -> None:
        """Keep entries of steps that no checkpoint holds; whoever dies here finds them in the log again, or twice."""
        if entries:
            with (self.folder / UNDONE_NAME).open("ab") as file:
                file.write(b"".join(map(_line, entries)))
                file.flush()
                os.fsync(file.fileno())

    def _write(self, entry: Mapping[str, Any]) -> None:
        self._file.write(_line(entry))
        self._file.flush()

    def _open(self) -> BinaryIO:
        return (self.folder / FILE_NAME).open("a+b")

    def _close(self) -> None:
        self._file.close()
        self._lock_file.close()


def _line(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(dict(entry)).encode() + b"\n"


def curve(entries: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    """The steps at which a figure was logged, and what it was."""
    return [(entry["step"], entry[name]) for entry in entries if entry.get(name) is not None]


def _lock(descriptor: int) -> None:
    try:
        import fcntl
    except ImportError:
        return
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
