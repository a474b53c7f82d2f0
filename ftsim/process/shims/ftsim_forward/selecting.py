"""Selectors, on which event loops wait: they are parked while nothing that they look at is there.

What a selector looks at may be of two kinds. Pipes, sockets of this machine's processes that share the clock, listening
sockets and connections that others have opened to them: whoever writes there runs, and holds the clock. And connections
to anybody else: a selector that looks at one of these is not parked, and time passes as it does.
"""

from __future__ import annotations

import os
import select
import selectors
import socket
import stat
from typing import Any

from ftsim_forward import real
from ftsim_forward.waits import deadline_after, poll, process, sleep

_LEAST_S = 0.001
"""Seconds below which a wait is not worth a leap."""
_real_select = select.select


def _select(self: Any, timeout: float | None = None) -> Any:
    wait = real.selects[type(self)] if type(self) in real.selects else _inherited(self)
    if timeout is not None and timeout < _LEAST_S:
        return wait(self, timeout)
    if found := wait(self, 0):
        return found
    keys = list(self.get_map().values())
    if any(map(_is_others, keys)):
        return wait(self, timeout)
    return poll(lambda: wait(self, 0), lambda: _readable(keys), deadline_after(timeout), lambda s: wait(self, s))


def _inherited(selector: object) -> Any:
    return next(real.selects[kind] for kind in type(selector).__mro__ if kind in real.selects)


def _readable(keys: list[selectors.SelectorKey]) -> bool:
    """Say whether one of these is ready, without taking anything away; what is closed meanwhile is."""
    reads = [key.fd for key in keys if key.events & selectors.EVENT_READ]
    writes = [key.fd for key in keys if key.events & selectors.EVENT_WRITE]
    if not hasattr(select, "poll"):
        return any(_real_select(reads, writes, [], 0))
    looking = select.poll()
    for fd in reads:
        looking.register(fd, select.POLLIN)
    for fd in writes:
        looking.register(fd, select.POLLOUT | (select.POLLIN if fd in reads else 0))
    return bool(looking.poll(0))


def _is_others(key: selectors.SelectorKey) -> bool:
    """Say whether something is a connection to a process that does not share the clock, as far as one can tell."""
    try:
        if not stat.S_ISSOCK(os.fstat(key.fd).st_mode):
            return False
        sock = socket.socket(fileno=key.fd)
    except OSError:
        return False
    try:
        return _leads_away(sock)
    finally:
        sock.detach()


def _leads_away(sock: socket.socket) -> bool:
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    own = sock.getsockname()
    if sock.type != socket.SOCK_STREAM:
        return True
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        process.table.listens(own[1])
        return False
    ports = process.table.ports
    if own[1] in ports:  # somebody has connected to us
        return False
    try:
        peer = sock.getpeername()
    except OSError:  # not connected yet
        return True
    return not (peer[0] == own[0] and peer[1] in ports)  # both ends on this machine have the same address


def _plain_select(reads: Any, writes: Any, errors: Any, timeout: float | None = None) -> Any:
    """`select.select`, which without a file is a sleep."""
    if timeout is not None and not (reads or writes or errors):
        sleep(timeout)
        timeout = 0
    return _real_select(reads, writes, errors, timeout)


def replaced() -> list[tuple[object, object]]:
    """Pair what other modules may have taken from `select` with what they get instead."""
    return [(_real_select, _plain_select)]


def install() -> None:
    """Have every selector of Python's own be seen."""
    for kind in real.SELECTORS:
        kind.select = _select
