"""A machine that lends ranks to the trainer of an emulator elsewhere (`ftsim trainer-node`), until that goes."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ftsim.compute.workers import rendezvous, sealed
from ftsim.compute.workers.nodes import answer_to
from ftsim.compute.workers.process import ADDRESS
from ftsim.compute.workers.rendezvous import Join, Look, Refused, Seen, Start, Stop, Welcome
from ftsim.compute.workers.sealed import NotTrustedError, Sealed
from ftsim.compute.workers.worker import command, ended

_AGAIN_S = 1.0
Say = Callable[[str], None]


class NodeError(Exception):
    """A node that cannot take part."""


def lend(address: tuple[str, int], nproc: int, secret: Callable[[], str | None], patience_s: float, say: Say) -> None:
    """Join the emulator at an address, and run ranks as it asks until it goes.

    `secret` is asked again while there is none: the emulator may write it. Raises NodeError.
    """
    connection, known = _joined(address, secret, patience_s)
    ranks: list[subprocess.Popen[bytes]] = []
    try:
        with contextlib.suppress(EOFError, OSError):
            connection.send(Join(nproc, rendezvous.versions()))
            while True:
                message = connection.recv()
                if isinstance(message, Refused):
                    raise NodeError(f"this node cannot take part: {message.why}")
                if isinstance(message, Look):
                    connection.send(_seen(message))
                elif isinstance(message, Welcome):
                    say(f"joined {address[0]}:{address[1]}, as one of {message.nodes} nodes, with {nproc} ranks")
                elif isinstance(message, Start):
                    ended(ranks)
                    meeting = (connection.there, address[1])
                    ranks = rendezvous.started(command(), message, nproc, meeting, connection.here, known, ADDRESS)
                elif isinstance(message, Stop):
                    ended(ranks)
                    ranks = []
        say("the emulator is gone")
    finally:
        connection.close()
        ended(ranks)


def _joined(address: tuple[str, int], secret: Callable[[], str | None], patience_s: float) -> tuple[Sealed, str]:
    until = time.monotonic() + patience_s
    while True:
        why = "there is no secret yet"
        if known := secret():
            try:
                return sealed.connected(address, known), known
            except NotTrustedError as error:
                raise NodeError(str(error)) from None
            except (OSError, EOFError) as error:
                why = str(getattr(error, "strerror", None) or error)
        if time.monotonic() > until:
            raise NodeError(f"no emulator at {address[0]}:{address[1]} within {patience_s:g} s: {why}")
        time.sleep(_AGAIN_S)


def _seen(asked: Look) -> Seen:
    missing: dict[Path, str] = {}
    for file, content in asked.files.items():
        try:
            if file.read_text() != content:
                missing[file] = "another file is there"
            answer_to(file).write_text(content[::-1])
        except OSError as error:
            missing[file] = str(error.strerror)
    return Seen(missing)


def main(address: tuple[str, int], nproc: int, state_dir: Path, patience_s: float) -> int:
    """The command: exit status 0 once the emulator has gone, 1 where this node cannot take part."""

    def secret() -> str | None:
        with contextlib.suppress(OSError):
            return os.environ.get(rendezvous.SECRET) or (state_dir / rendezvous.SECRET_FILE).read_text().strip()
        return None

    def leave(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, leave)
    try:
        lend(address, nproc, secret, patience_s, lambda text: print(f"ftsim: {text}", flush=True))
    except NodeError as error:
        print(f"ftsim: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
