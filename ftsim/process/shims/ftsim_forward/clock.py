"""Python's clocks, moved by how far the shared time runs ahead of the machine's. Clocks of CPU time stay."""

from __future__ import annotations

import ctypes
import datetime
import gc
import sys
import time
from typing import Any

from ftsim_forward import real
from ftsim_forward.waits import process, sleep

_WALL = {getattr(time, name) for name in ("CLOCK_REALTIME", "CLOCK_TAI") if hasattr(time, name)}
_MONOTONIC_NAMES = ("CLOCK_MONOTONIC", "CLOCK_MONOTONIC_RAW", "CLOCK_BOOTTIME", "CLOCK_UPTIME", "CLOCK_UPTIME_RAW")
_MONOTONIC = {getattr(time, name) for name in _MONOTONIC_NAMES if hasattr(time, name)}


def time_ns() -> int:
    return int(real.time_ns() + process.table.wall_ahead)


def _time() -> float:
    return time_ns() / 1e9


def monotonic_ns() -> int:
    return int(process.now())


def monotonic() -> float:
    return monotonic_ns() / 1e9


def perf_counter_ns() -> int:
    return int(real.perf_counter_ns() + process.table.ahead)


def perf_counter() -> float:
    return perf_counter_ns() / 1e9


def clock_gettime_ns(clock: int) -> int:
    ahead = process.table.wall_ahead if clock in _WALL else process.table.ahead if clock in _MONOTONIC else 0
    return int(real.clock_gettime_ns(clock) + ahead)


def clock_gettime(clock: int) -> float:
    return clock_gettime_ns(clock) / 1e9


def gmtime(seconds: float | None = None, /) -> time.struct_time:
    return real.gmtime(_time() if seconds is None else seconds)


def localtime(seconds: float | None = None, /) -> time.struct_time:
    return real.localtime(_time() if seconds is None else seconds)


def ctime(seconds: float | None = None, /) -> str:
    return real.ctime(_time() if seconds is None else seconds)


def strftime(form: str, moment: Any = None, /) -> str:
    return real.strftime(form, localtime() if moment is None else moment)


def _now(cls: type[datetime.datetime], tz: datetime.tzinfo | None = None) -> datetime.datetime:
    seconds, rest = divmod(time_ns(), 10**9)
    return cls.fromtimestamp(seconds, tz).replace(microsecond=rest // 1000)


def _utcnow(cls: type[datetime.datetime]) -> datetime.datetime:
    return _now(cls, datetime.timezone.utc).replace(tzinfo=None)  # noqa: UP017 (the program's Python may be older)


def replaced() -> list[tuple[object, object]]:
    """Python's functions of time that show the machine's, and those that show the shared one."""
    names = {
        "time": _time, "time_ns": time_ns, "monotonic": monotonic, "monotonic_ns": monotonic_ns,
        "perf_counter": perf_counter, "perf_counter_ns": perf_counter_ns, "clock_gettime": clock_gettime,
        "clock_gettime_ns": clock_gettime_ns, "gmtime": gmtime, "localtime": localtime, "ctime": ctime,
        "strftime": strftime, "sleep": sleep,
    }  # fmt: skip
    return [(getattr(time, name), new) for name, new in names.items()]


def install() -> None:
    """Have `datetime` read the shared clock."""
    _set(datetime.datetime, now=classmethod(_now), utcnow=classmethod(_utcnow))


def _set(kind: type, **methods: Any) -> None:
    """Give a type of the interpreter's own other methods, where this Python lets one."""
    own = [one for one in gc.get_referents(kind.__dict__) if isinstance(one, dict)]
    if sys.implementation.name == "cpython" and len(own) == 1:
        own[0].update(methods)
        ctypes.pythonapi.PyType_Modified(ctypes.py_object(kind))
