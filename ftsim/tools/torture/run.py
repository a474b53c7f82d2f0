"""Runs the program twice on emulators of the same seed: left alone, then through a seeded sequence of disturbances."""

import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emulator.backend import Backend
from emulator.core.errors import PlatformError
from emulator.server import Emulator
from emulator.state.server_record import ServerRecord
from ftsim.compute.models import hub
from ftsim.process.environment import program_environment
from ftsim.process.run import command_line
from ftsim.tools.torture.evidence import gather
from ftsim.tools.torture.verdict import compare

POLL_S = 0.005
KILL, PREEMPT = "kill", "preempt"
KILL_SAVED, KILL_SAVING, KILL_PROMOTING = "kill after save", "kill in save", "kill before promotion"
_KILLS = frozenset({KILL, KILL_SAVED, KILL_SAVING, KILL_PROMOTING})
SLOW_SAVE_S = 0.5
"""Seconds that a save takes in which the program is killed: it must not end before the kill."""
QUIRKS: tuple[tuple[str, object, str], ...] = (
    ("http.lose_reply", "after", "optim_step"),
    ("http.lose_reply", "after", "forward_backward"),
    ("http.lose_reply", "before", "optim_step"),
    ("http.lose_reply", "after", "save_weights"),
    ("http.fail", 503, "retrieve_future"),
    ("http.fail", 429, "list_checkpoints"),
    ("rows.visible_after_lists", 1, ""),
)
"""Failures that a right client survives: name, value, endpoint; each strikes once."""


class TortureError(Exception):
    """The program could not be judged; the message says why."""


@dataclass(frozen=True)
class Disturbance:
    """An event after so many optimizer steps were asked for: a kill, a preemption, a quirk for one call.

    For a kill that belongs to a save, `after_steps` is the number of the save: KILL_SAVED strikes in the first step
    after it was acknowledged, KILL_SAVING before it is. KILL_PROMOTING strikes when the program asks for its first
    promotion, which is refused for this once.
    """

    after_steps: int
    what: str
    value: object = None
    endpoint: str = ""

    def __str__(self) -> str:
        where = f" of {self.endpoint}" if self.endpoint else ""
        told = self.what if self.value is None else f"{self.what}={self.value!r}{where}"
        if self.what in (KILL_SAVED, KILL_SAVING):
            return f"{told} {self.after_steps}"
        if self.what == KILL_PROMOTING:
            return told
        return f"after {self.after_steps} steps: {told}"


@dataclass
class Verdict:
    """The result of a torture. `problems` is empty when the program survived; `notes` say what could not be judged."""

    disturbances: list[Disturbance]
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    struck: list[str] = field(default_factory=list)
    resumed: list[str] = field(default_factory=list)
    starts: int = 0
    steps: int = 0
    alone_s: float = 0.0
    """Seconds of the run that was left alone."""
    disturbed_s: float = 0.0
    """Seconds of all starts of the other one."""

    @property
    def survived(self) -> bool:
        return not self.problems and self.judged

    @property
    def judged(self) -> bool:
        """False when it was to be killed and never came back to a save: nothing is known about how it resumes."""
        return bool(self.problems or self.resumed) or not any(one.what in _KILLS for one in self.disturbances)


def plan(
    seed: int, steps: int, *, kills: int, failures: int, saves: int = 0, promotes: bool = False
) -> list[Disturbance]:
    """The sequence of a seed, spread over a run of so many steps and resumable saves.

    The first kills are those that judge: after an acknowledged save, in a save, before the promotion.
    """
    chance = random.Random(seed)
    made = [Disturbance(chance.randint(1, max(1, saves - 1)), KILL_SAVED)] if saves else []
    made += [Disturbance(chance.randint(2, saves), KILL_SAVING)] if saves > 1 else []
    made += [Disturbance(1, KILL_PROMOTING)] if promotes else []
    made = made[:kills]
    more = kills - len(made)
    moments = [chance.randint(1, max(1, steps - 1)) for _ in range(more + failures)]
    made += [Disturbance(at, KILL) for at in moments[:more]]
    for at in moments[more:]:
        name, value, endpoint = chance.choice((*QUIRKS, (PREEMPT, None, "")))
        made.append(Disturbance(at, name, value, endpoint))
    return sorted(made, key=lambda one: (one.after_steps, str(one)))


def torture(
    argv: Sequence[str],
    *,
    backend: Callable[[], Backend],
    seed: int = 0,
    kills: int = 3,
    failures: int = 5,
    folder: Path | None = None,
    timeout_s: float = 900.0,
    disturbances: Sequence[Disturbance] | None = None,
) -> Verdict:
    """Judge a program: `argv` as for `ftsim run`, `folder` what it finds around it (copied for each of the two runs).

    Raises TortureError when it does not even end well when left alone.
    """
    command = command_line(argv)
    with tempfile.TemporaryDirectory(prefix="ftsim-torture-") as name:
        scratch = Path(name)
        quiet = _Attempt(scratch / "quiet", folder, command, backend, seed)
        began = time.monotonic()
        with quiet.emulator:
            if (status := quiet.run([], timeout_s)) != 0:
                raise TortureError(
                    f"left alone, the program ended with {status}; the end of its output:\n{quiet.tail()}"
                )
            expected = gather(quiet.emulator)
        if not expected.final:
            raise TortureError("left alone, the program saved no resumable state: there is nothing to compare")
        coming = list(
            disturbances
            if disturbances is not None
            else plan(
                seed,
                len(expected.final),
                kills=kills,
                failures=failures,
                saves=expected.saves,
                promotes=bool(expected.promoted),
            )
        )
        verdict = Verdict(coming, steps=len(expected.final), alone_s=time.monotonic() - began)
        rough = _Attempt(scratch / "rough", folder, command, backend, seed)
        began = time.monotonic()
        with rough.emulator:
            left = list(coming)
            for _ in range(len(coming) + 3):
                verdict.starts += 1
                status = rough.run(left, timeout_s)
                if status == 0:
                    break
            rough.emulator.quirks.clear()
            verdict.struck = rough.struck
            found = gather(rough.emulator)
        verdict.disturbed_s = time.monotonic() - began
    if status != 0:
        verdict.problems.append(
            f"never came to its end: {verdict.starts} starts, the last ended with {status}:\n{rough.tail()}"
        )
    verdict.problems += compare(expected, found)
    verdict.resumed = [str(one) for one in found.resumed]
    verdict.notes = [*expected.gaps, *found.gaps, *(f"never came about: {one}" for one in left)]
    return verdict


class _Attempt:
    """An emulator of its own, a copy of the program's folder, and the program's output."""

    def __init__(
        self, root: Path, folder: Path | None, command: list[str], backend: Callable[[], Backend], seed: int
    ) -> None:
        self.emulator = Emulator(backend(), state_dir=root / "state", seed=seed)
        self.struck: list[str] = []
        self._armed: set[Disturbance] = set()
        self._command = command
        self._work = root / "work"
        if folder is None:
            self._work.mkdir(parents=True)
        else:
            shutil.copytree(folder, self._work, symlinks=True)
        self._hub = hub.build(root / "hub")
        self._log = b""

    def run(self, left: list[Disturbance], timeout_s: float) -> int:
        """Start the program and disturb it as `left` says, taking off what has happened; its exit status."""
        record = ServerRecord(self.emulator.url, os.getpid(), self.emulator.api_key, self.emulator.account)
        environment = program_environment(os.environ, record, self._hub) | {"PWD": str(self._work)}
        deadline = time.monotonic() + timeout_s
        with tempfile.TemporaryFile() as output:
            program = subprocess.Popen(
                self._command, cwd=self._work, env=environment, stdout=output, stderr=output, start_new_session=True
            )
            try:
                while program.poll() is None:
                    if time.monotonic() > deadline:
                        raise TortureError(f"the program did not end within {timeout_s:.0f} s")
                    for one in [one for one in left if self._is_due(one)]:
                        left.remove(one)
                        self._strike(one, program)
                    time.sleep(POLL_S)
            finally:
                _kill(program)
                output.seek(0)
                self._log = output.read()
        return program.returncode

    def tail(self, lines: int = 12) -> str:
        return "\n".join(self._log.decode("utf-8", "replace").splitlines()[-lines:])

    def _is_due(self, one: Disturbance) -> bool:
        journal = self.emulator.journal
        if one.what == KILL_PROMOTING:
            self._arm(one, "http.fail", 503, "promote")
            return bool(journal.of("promote"))
        if one.what not in (KILL_SAVED, KILL_SAVING):
            return len(journal.of("optim_step")) >= one.after_steps
        saves = journal.of("save_weights")
        if one.what == KILL_SAVING:
            if len(saves) == one.after_steps - 1:
                self._arm(one, "save.duration_s", SLOW_SAVE_S)
            return len(saves) >= one.after_steps
        if len(saves) < one.after_steps:
            return False
        asked = saves[one.after_steps - 1].began
        return any(step.began > asked for step in journal.of("optim_step"))

    def _arm(self, one: Disturbance, quirk: str, value: object, endpoint: str = "") -> None:
        """Prepare the service once for the moment in which the program is killed."""
        if one not in self._armed:
            self._armed.add(one)
            where: dict[str, Any] = {"endpoint": endpoint} if endpoint else {}
            self.emulator.quirks.set(quirk, value, times=1, **where)

    def _strike(self, one: Disturbance, program: "subprocess.Popen[bytes]") -> None:
        self.struck.append(str(one))
        if one.what in _KILLS:
            _kill(program)
        elif one.what == PREEMPT:
            for job in self.emulator.world.jobs:
                try:
                    self.emulator.platform.jobs.preempt(job.account, job.id)
                except PlatformError:
                    continue  # it does not run now
        else:
            where: dict[str, Any] = {"endpoint": one.endpoint} if one.endpoint else {}
            self.emulator.quirks.set(one.what, one.value, times=1, **where)


def _kill(program: "subprocess.Popen[bytes]") -> None:
    """SIGKILL for the program and whatever it started."""
    if program.poll() is None:
        os.killpg(program.pid, signal.SIGKILL)
        program.wait()
