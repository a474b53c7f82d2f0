"""The thread that wakes a process's sleepers, and moves the shared time when nobody could run.

Time is moved in two looks. A process that finds itself and, by their rows, all others idle takes the lock and begins a
round: each process looks at itself afresh. Only if all are idle again, and none of their threads has run in between,
was there a moment at which nobody ran and nothing was under way; then time leaps to the earliest deadline.
"""

from __future__ import annotations

import _thread
import os
import sys
import time
import traceback
from collections.abc import Sequence

from ftsim_forward import real
from ftsim_forward.table import HELPER, NEVER, OTHER, PROGRAM, SERVER, Row
from ftsim_forward.waits import parked, process

SETTLE_S = 0.0002
"""Seconds after which a thread that was parked is parked still, or it was a short wait."""
LOOK_S = (0.0005, 0.005)
"""Seconds between two looks of an idle process: at first, and when nothing has come of it for long."""
BUSY_LOOK_S = 0.05
LATE_S, PATIENCE_S = 0.01, 0.1
"""Seconds after which a process that says nothing in a round may be dead, and after which the round is over."""
DEAD_AFTER = 20
"""Looks after which a row that is not idle is asked whether its process lives."""
LEAST_NS = 1_000_000
TICK_NS = 1_000_000_000
"""Waits of the emulator that are no longer look after something: time leaps over them, not to them."""
_TASKS = "/proc/self/task"


class Pacer:
    """The pacer of this process."""

    def __init__(self) -> None:
        self.thread = 0
        self.native = 0
        self.pid = os.getpid()
        self.serves = any(row.pid == self.pid and row.kind == SERVER for row in process.table.rows())
        self.confirmed = 0
        self.vain = 0
        self._cpu = (0, 0)

    def run(self) -> None:
        self.thread, self.native = _thread.get_ident(), _thread.get_native_id()
        while process.pacing:
            try:
                pause = self._turn()
            except Exception:
                traceback.print_exc()
                print("ftsim: the shared clock stands from here on; please report this", file=sys.stderr)
                process.table.disarm()
                pause = BUSY_LOOK_S
            process.wakes_at = process.now() + int(pause * 1e9)
            process.gate.acquire(True, pause)
            if parked:
                real.sleep(SETTLE_S)

    def _turn(self) -> float:
        """Look once; returns the seconds until the next look."""
        process.table.keep()
        asked = process.table.round
        deadline = self._wake()
        idle, runs = self.look(deep=asked != self.confirmed)
        self._say(idle, deadline, runs, asked)
        if not idle:
            self.confirmed, self.vain = asked, 0
            return max(0.0, min(BUSY_LOOK_S, (deadline - process.now()) / 1e9))
        if asked != self.confirmed:
            self.confirmed, self.vain = asked, 0
        if process.table.armed and self._others_idle() and process.table.try_lock():
            try:
                self.vain = 0 if self._lead() else self.vain + 1
            finally:
                process.table.unlock()
        else:
            self.vain += 1
        pause = LOOK_S[0] if self.vain < 100 else LOOK_S[1]
        return max(0.0, min(pause, (deadline - process.now()) / 1e9))

    def _wake(self) -> int:
        """Wake whoever is due; returns the next deadline that time leaps to."""
        now, earliest = process.now(), NEVER
        for waiter in list(parked.values()):
            if waiter.deadline <= now:
                waiter.wake()
            elif waiter.deadline < earliest and (not self.serves or waiter.deadline - waiter.since > TICK_NS):
                earliest = waiter.deadline
        return int(earliest)

    def look(self, *, deep: bool) -> tuple[bool, int]:
        """Say whether no thread of this process could run; and the number that says when one did last.

        Only a `deep` look sees threads that Python does not know; it takes longer.
        """
        runs = process.runs
        idle = (
            not (process.starting or process.ending)
            and self._all_parked()
            and not any(one.ready is not None and one.ready() for one in list(parked.values()))
            and not (deep and self._computes())
            and process.runs == runs
        )
        return idle, runs

    def _all_parked(self) -> bool:
        before = process.before
        return all(one in parked or one == self.thread or one in before for one in sys._current_frames())

    def _computes(self) -> bool:
        """Say whether a thread that Python does not know uses the processor."""
        try:
            tasks = os.listdir(_TASKS)
        except OSError:
            return self._used_cpu()
        known = {one.native for one in list(parked.values())} | {self.native}
        for task in tasks:
            if int(task) not in known:
                try:
                    with open(f"{_TASKS}/{task}/stat", "rb") as file:
                        state = file.read().rpartition(b")")[2].split(None, 1)[0]
                except OSError:
                    continue
                if state in (b"R", b"D"):
                    return True
        return False

    def _used_cpu(self) -> bool:
        """The same, where the system does not list threads: by the processor's time since the last look."""
        used, now = time.process_time_ns() - time.thread_time_ns(), real.monotonic_ns()
        before, then = self._cpu
        self._cpu = (used, now)
        return 5 * (used - before) > now - then

    def _say(self, idle: bool, deadline: int, runs: int, asked: int) -> None:
        process.table.say(idle, deadline, runs, asked)

    # -- leading

    def _others_idle(self) -> bool:
        rows = list(process.table.rows())
        parents = {row.parent for row in rows if row.kind == PROGRAM}
        held = [row for row in rows if not _lets_go(row, parents)]
        if held and self.vain % DEAD_AFTER == DEAD_AFTER - 1:
            with process.table.locked():
                _bury(list(process.table.rows()))
        return not held and any(row.kind == PROGRAM for row in rows)

    def _lead(self) -> bool:
        """Ask all processes to look afresh, and leap if they are as idle as before; call it with the lock."""
        seen = {row.index: row for row in process.table.rows()}
        parents = {row.parent for row in seen.values() if row.kind == PROGRAM}
        if not all(_lets_go(row, parents) for row in seen.values()):
            return False
        asked = process.table.begin_round()
        late, until = (real.monotonic_ns() + int(seconds * 1e9) for seconds in (LATE_S, PATIENCE_S))
        while True:
            rows = {row.index: row for row in process.table.rows()}
            others = [one for one in rows.values() if one.kind not in (OTHER, HELPER) and one.pid != self.pid]
            silent = [one for one in others if one.confirmed != asked]
            if not silent:
                break
            now = real.monotonic_ns()
            if now > until or (now > late and _bury(silent)):
                return False
            real.sleep(SETTLE_S)
        deadline = self._wake()
        idle, runs = self.look(deep=True)
        self._say(idle, deadline, runs, asked)
        rows[process.table.row] = process.table.own()
        if not idle:
            return False
        still = all(
            index in seen and _lets_go(row, parents) and row.runs == seen[index].runs for index, row in rows.items()
        )
        deadline = min(row.deadline for row in rows.values())
        ahead = deadline - process.now()
        if not still or deadline == NEVER or ahead < LEAST_NS:
            return False
        process.table.leap(ahead)
        self._wake()
        return True


def _lets_go(row: Row, parents: set[int]) -> bool:
    """Say whether a row lets time move; a child that shares no clock does where a child of its own shares one."""
    return row.kind == HELPER or (row.pid in parents if row.kind == OTHER else row.idle)


def _bury(rows: Sequence[Row]) -> bool:
    """Free the rows of processes that are gone; says whether there were any. Call it with the lock."""
    dead = [row for row in rows if not _lives(row.pid)]
    for row in dead:
        process.table.free(row.index)
    return bool(dead)


def _lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            if file.read().rpartition(b")")[2].split(None, 1)[0] not in (b"Z", b"X"):
                return True
        # A process whose first thread has ended has its files open until the last one has.
        return len(os.listdir(f"/proc/{pid}/task")) > 1
    except OSError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not os.path.exists("/proc/self/stat")


_threads: list[int] = []


def start() -> None:
    """Start the pacer of this process."""
    process.pacing = True
    _threads.append(os.getpid())
    real.start_new_thread(_run, ())


def _run() -> None:
    try:
        Pacer().run()
    finally:
        _threads.pop()


def running() -> bool:
    """Say whether a pacer of this process runs, or has not ended yet."""
    return os.getpid() in _threads


process.start_pacer = start
