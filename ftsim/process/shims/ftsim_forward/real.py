"""Python's own functions of time, threads and files, kept before they are replaced."""

from __future__ import annotations

import _thread
import os
import selectors
import threading
import time

sleep = time.sleep
time_ns = time.time_ns
monotonic_ns = time.monotonic_ns
perf_counter_ns = time.perf_counter_ns
gmtime, localtime, ctime, strftime = time.gmtime, time.localtime, time.ctime, time.strftime
clock_gettime_ns = time.clock_gettime_ns
allocate_lock = _thread.allocate_lock
lock_type = _thread.LockType
reentrant_lock = _thread.RLock
join = threading.Thread.join
start = threading.Thread.start
bootstrap = threading.Thread._bootstrap_inner  # type: ignore[attr-defined]
start_new_thread = _thread.start_new_thread
waitpid = os.waitpid
fork = os.fork
SELECTORS = [
    getattr(selectors, name)
    for name in ("SelectSelector", "PollSelector", "EpollSelector", "KqueueSelector", "DevpollSelector")
    if hasattr(selectors, name)
]
selects = {kind: kind.select for kind in SELECTORS}
