"""The processes that share one clock: a small file, mapped into the memory of each.

The file holds how far the shared time runs ahead of the machine's, and a row for each process: idle or not, its next
deadline, and how often one of its threads has begun to run. A row is written by its own process alone; rows are taken
and given back, and time is moved, under a lock on the file. Numbers are 8 bytes, written in one piece.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ftsim_forward import real

ROWS, COLUMNS, PORTS = 255, 8, 64
_HEAD = 8 + PORTS
SIZE = 8 * (_HEAD + ROWS * COLUMNS)
_AHEAD, _WALL_BACK, _ROUND, _ARMED, _CROWDED = range(5)
_PID, _PARENT, _KIND, _IDLE, _DEADLINE, _RUNS, _CONFIRMED = range(7)
FREE, PROGRAM, SERVER, OTHER, HELPER = range(5)
"""Kinds of row. OTHER is a child that has not said that it shares the clock; HELPER never holds it."""
NEVER = (1 << 63) - 1


@dataclass(frozen=True)
class Row:
    """A process, as it tells of itself. `deadline` is in nanoseconds of the shared monotonic clock."""

    index: int
    pid: int
    parent: int
    kind: int
    idle: bool
    deadline: int
    runs: int
    confirmed: int


class Table:
    """The file of one shared clock, as this process sees it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.row = -1
        self._open()

    def _open(self) -> None:
        self._file = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        self._cells = memoryview(mmap.mmap(self._file, SIZE)).cast("q")
        self._mutex = real.allocate_lock()  # threads of a process share its lock on the file

    def reopen(self) -> None:
        """Have a lock of its own in a forked process: a lock belongs to whoever opened the file."""
        os.close(self._file)
        self._open()

    @staticmethod
    def make(path: str) -> None:
        """Make the file, or empty one that is there; how far its time runs ahead stays.

        It is never shortened: a process that has it mapped would die of a look at what is gone.
        """
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            ahead = os.pread(descriptor, 8, 8 * _AHEAD).ljust(8, b"\0")
            os.ftruncate(descriptor, SIZE)
            os.pwrite(descriptor, ahead + bytes(SIZE - 8), 8 * _AHEAD)
        finally:
            os.close(descriptor)

    # -- time

    @property
    def ahead(self) -> int:
        """Nanoseconds by which the shared monotonic clock runs ahead of the machine's."""
        return self._cells[_AHEAD]

    @property
    def wall_ahead(self) -> int:
        """The same for the time of day, which may be set back."""
        return self._cells[_AHEAD] - self._cells[_WALL_BACK]

    def leap(self, nanoseconds: int) -> None:
        """Move the shared time forward; call it with the lock."""
        self._cells[_AHEAD] += nanoseconds

    @property
    def armed(self) -> bool:
        """True while time may be moved."""
        return self._cells[_ARMED] != 0 and self._cells[_CROWDED] == 0

    def arm(self) -> None:
        """Let time be moved."""
        self._cells[_ARMED] = 1

    def disarm(self) -> None:
        """Let time pass as the machine's does, and show the machine's time of day."""
        self._cells[_ARMED] = 0
        self._cells[_WALL_BACK] = self._cells[_AHEAD]

    # -- rows

    def _row(self, index: int) -> Row:
        at = _HEAD + index * COLUMNS
        pid, parent, kind, idle, deadline, runs, confirmed = self._cells[at : at + 7]
        return Row(index, pid, parent, kind, idle != 0, deadline, runs, confirmed)

    def rows(self) -> Iterator[Row]:
        """The rows that are taken."""
        for index in range(ROWS):
            if self._cells[_HEAD + index * COLUMNS + _KIND] != FREE:
                yield self._row(index)

    def own(self) -> Row:
        """This process's own row."""
        return self._row(self.row)

    def enter(self, pid: int, parent: int, kind: int) -> int:
        """Take a row for a process, or the one that its parent took for it; -1, and time stands, when all are taken."""
        with self.locked():
            taken = {row.pid: row.index for row in self.rows()}
            free = (i for i in range(ROWS) if self._cells[_HEAD + i * COLUMNS + _KIND] == FREE)
            index = taken[pid] if pid in taken else next(free, -1)
            if index < 0:
                self._cells[_CROWDED] = 1
                return -1
            if pid in taken and kind == OTHER:  # it has said already what it is
                return index
            at = _HEAD + index * COLUMNS
            for column, value in enumerate((pid, parent, kind, 0, NEVER, 0, 0)):
                self._cells[at + column] = value
            return index

    def leave(self, pid: int) -> None:
        """Give back the row of a process that has ended."""
        with self.locked():
            for row in self.rows():
                if row.pid == pid:
                    self.free(row.index)

    def free(self, index: int) -> None:
        """Free a row; call it with the lock."""
        self._cells[_HEAD + index * COLUMNS + _KIND] = FREE

    def _has_row(self) -> bool:
        return self.row >= 0 and self._cells[_HEAD + self.row * COLUMNS + _PID] == os.getpid()

    def keep(self) -> None:
        """Take a row again when an emulator that was started anew has emptied the file; call it without the lock."""
        if self.row >= 0 and not self._has_row():
            self.row = self.enter(os.getpid(), os.getppid(), PROGRAM)

    def say(self, idle: bool, deadline: int, runs: int, confirmed: int) -> None:
        """Write this process's own row, if it has one."""
        at = _HEAD + self.row * COLUMNS
        if self._has_row():
            self._cells[at + _DEADLINE] = deadline
            self._cells[at + _RUNS] = runs
            self._cells[at + _IDLE] = int(idle)
            self._cells[at + _CONFIRMED] = confirmed

    # -- rounds

    @property
    def round(self) -> int:
        """The number of the newest round, in which every process looks at itself afresh."""
        return self._cells[_ROUND]

    def begin_round(self) -> int:
        """Ask every process to look at itself; call it with the lock."""
        self._cells[_ROUND] += 1
        return self._cells[_ROUND]

    # -- ports

    @property
    def ports(self) -> frozenset[int]:
        """Ports of this machine on which one of these processes listens."""
        return frozenset(self._cells[8:_HEAD]) - {0}

    def listens(self, port: int) -> None:
        """Note a port on which this process listens."""
        if port not in self.ports:
            with self.locked():
                free = [i for i in range(8, _HEAD) if self._cells[i] == 0]
                if free:
                    self._cells[free[0]] = port

    # -- the lock

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock on the file."""
        with self._mutex:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def try_lock(self) -> bool:
        """Take the lock on the file if nobody has it."""
        if not self._mutex.acquire(False):
            return False
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._mutex.release()
            return False
        return True

    def unlock(self) -> None:
        """Let go of the lock that `try_lock` took."""
        fcntl.flock(self._file, fcntl.LOCK_UN)
        self._mutex.release()
