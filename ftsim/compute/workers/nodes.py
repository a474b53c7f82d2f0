"""The machines that lend ranks to this emulator's trainer: they join at its rendezvous, and stay joined between groups.

A node is let in when it knows the secret, runs the same versions, and sees the files that this machine writes where
checkpoints go, and this machine its files there. More nodes than a group needs wait until one is lost.
"""

import contextlib
import logging
import secrets
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emulator.backend import BackendError
from ftsim.compute.workers import rendezvous, sealed
from ftsim.compute.workers.rendezvous import Join, Look, Rank, Refused, Seen, Welcome
from ftsim.compute.workers.sealed import Sealed

PATIENCE_S = 60.0
"""Seconds that an operation waits for nodes that have not joined yet."""
_GREETINGS = 64
"""Connections that have not proved themselves yet, at a time: each has a thread for at most ten seconds."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Meeting:
    """The place where so many machines meet, this one among them; `shared` are the folders that all must see."""

    host: str
    port: int
    nnodes: int
    secret: str
    shared: tuple[Path, ...]


@dataclass(eq=False)
class Node:
    """A machine that has joined."""

    nproc: int
    connection: Sealed
    lost: bool = False


@dataclass
class _Life:
    """The ranks of one group that have come so far, with their process ids."""

    name: str = ""
    ranks: dict[int, tuple[int, Sealed]] = field(default_factory=dict)


class Nodes:
    """The rendezvous of an emulator."""

    def __init__(self, meeting: Meeting, patience_s: float = PATIENCE_S) -> None:
        self.meeting = meeting
        self.patience_s = patience_s
        self._changed = threading.Condition()
        self._nodes: list[Node] = []
        self._life = _Life()
        self._socket: socket.socket | None = None
        self._leaving = False
        self._greetings = threading.BoundedSemaphore(_GREETINGS)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port at which processes of this machine reach the rendezvous."""
        assert self._socket is not None
        host, port = self._socket.getsockname()[:2]
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port

    def listen(self) -> None:
        """Let nodes join from now on; safe to call twice. Raises BackendError where the address cannot be used."""
        with self._changed:
            self._leaving = False
            if self._socket is not None:
                return
            where = (self.meeting.host, self.meeting.port)
            family = socket.AF_INET6 if ":" in self.meeting.host else socket.AF_INET
            try:
                self._socket = socket.create_server(where, family=family)
            except OSError as error:
                raise BackendError(
                    f"the rendezvous {where[0]}:{where[1]} cannot be used: {error.strerror or error}; it is an address "
                    "of this machine that the nodes reach, and a free port",
                    "server",
                ) from None
        threading.Thread(target=self._accept, args=(self._socket,), name="rendezvous", daemon=True).start()

    @property
    def complete(self) -> bool:
        """True when as many nodes are here as a group needs."""
        with self._changed:
            return len(self._nodes) >= self.meeting.nnodes - 1

    def joined(self) -> list[Node]:
        """The nodes of a group, once there are as many as it needs; raises BackendError when they do not come."""
        wanted = self.meeting.nnodes - 1
        with self._changed:
            self._changed.wait_for(lambda: self._leaving or len(self._nodes) >= wanted, self.patience_s)
            if self._leaving:
                raise BackendError("the emulator ends, and waits for no more nodes", "server")
            if len(self._nodes) < wanted:
                host, port = self.address
                raise BackendError(
                    f"{len(self._nodes) + 1} of {self.meeting.nnodes} nodes are here after {self.patience_s:g} s: run "
                    f"`ftsim trainer-node --rdzv-endpoint {host}:{port}` on the others, and ask again",
                    "server",
                )
            return self._nodes[:wanted]

    def begin(self, life: str) -> None:
        """Wait for the ranks of this life from now on, and let go of those before; "" waits for none."""
        with self._changed:
            before, self._life = self._life, _Life(life)
        for _, connection in before.ranks.values():
            connection.close()

    def met(self, world: int, seconds: float, *, alive: "AliveCheck") -> list[tuple[int, Sealed]]:
        """Process id and connection of each rank of a life that has begun; raises ConnectionError."""
        until = time.monotonic() + seconds
        with self._changed:
            while len(self._life.ranks) < world:
                if not alive():
                    raise ConnectionError("a rank ended at once")
                if time.monotonic() > until:
                    raise ConnectionError(f"{len(self._life.ranks)} of {world} ranks came within {seconds:g} s")
                self._changed.wait(1.0)
            return [self._life.ranks[rank] for rank in range(world)]

    def leave(self) -> None:
        """Let nobody wait for nodes any more: the emulator ends."""
        with self._changed:
            self._leaving = True
            self._changed.notify_all()

    def close(self) -> None:
        """Let go of all nodes, which end their ranks and themselves; a later `listen` begins anew."""
        with self._changed:
            listening, self._socket = self._socket, None
            nodes, self._nodes = self._nodes, []
        if listening is not None:
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            listening.close()
        for node in nodes:
            node.connection.close()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                opened, _ = listening.accept()
            except OSError:  # it was closed
                return
            self._greetings.acquire()
            threading.Thread(target=self._greet, args=(opened,), name="rendezvous-greets", daemon=True).start()

    def _greet(self, opened: socket.socket) -> None:
        try:
            connection = sealed.accepted(opened, self.meeting.secret)
        except (OSError, EOFError) as error:
            _log.warning("ftsim: somebody was turned away at the rendezvous: %s", error or type(error).__name__)
            opened.close()
            return
        finally:
            self._greetings.release()
        try:
            first = connection.recv()
        except (OSError, EOFError):
            connection.close()
            return
        if isinstance(first, Rank):
            self._take_rank(first, connection)
        elif isinstance(first, Join):
            with contextlib.suppress(OSError, EOFError):
                self._take_node(first, connection)
            connection.close()

    def _take_rank(self, told: Rank, connection: Sealed) -> None:
        with self._changed:
            if not told.life or told.life != self._life.name:
                connection.close()
                return
            self._life.ranks[told.rank] = (told.pid, connection)
            self._changed.notify_all()

    def _take_node(self, told: Join, connection: Sealed) -> None:
        """Check a node, and keep it for as long as it is there."""
        why = _other_versions(told) or self._unseen(connection)
        if why:
            _log.warning("ftsim: the node at %s cannot take part: %s", connection.there, why)
            connection.send(Refused(why))
            return
        node = Node(told.nproc, connection)
        with self._changed:  # from here on it is asked for ranks, by another thread
            connection.send(Welcome(self.meeting.nnodes))
            self._nodes.append(node)
            self._changed.notify_all()
        try:
            connection.recv()  # it has nothing more to say
        finally:
            with self._changed:
                node.lost = True
                if node in self._nodes:
                    self._nodes.remove(node)
                self._changed.notify_all()

    def _unseen(self, connection: Sealed) -> str:
        """Say why this machine and a node do not see each other's files; "" when they do."""
        files: dict[Path, str] = {}
        try:
            for folder in self.meeting.shared:
                folder.mkdir(parents=True, exist_ok=True)
                name = folder / f".node-{secrets.token_hex(8)}"
                files[name] = secrets.token_hex(16)
                name.write_text(files[name])
            connection.send(Look(files))
            answer = connection.recv()
            assert isinstance(answer, Seen)
            missing = dict(answer.missing) or _unanswered(files)
        finally:
            for name in files:
                for one in (name, answer_to(name)):
                    with contextlib.suppress(OSError):
                        one.unlink(missing_ok=True)
        if not missing:
            return ""
        file, reason = next(iter(missing.items()))
        return (
            f"it does not share {file.parent} with the emulator ({reason}): mount one folder at that path on all "
            "nodes, where all of them can write"
        )


class AliveCheck:
    """Tells whether what is waited for can still come."""

    def __init__(self, processes: Sequence[Any], nodes: Sequence[Node]) -> None:
        self._processes = processes
        self._nodes = nodes

    def __call__(self) -> bool:
        """False once a process of this machine has ended, or a node is lost."""
        return all(one.poll() is None for one in self._processes) and not any(node.lost for node in self._nodes)


def answer_to(file: Path) -> Path:
    """The file that a node writes beside one of the emulator's."""
    return file.with_name(f"{file.name}-seen")


def _unanswered(files: dict[Path, str]) -> dict[Path, str]:
    found = {}
    for file, content in files.items():
        try:
            if answer_to(file).read_text() != content[::-1]:
                found[file] = "another file is there"
        except OSError as error:
            found[file] = f"the node's file: {error.strerror}"
    return found


def _other_versions(told: Join) -> str:
    mine = rendezvous.versions()
    for name in sorted(mine.keys() | told.versions.keys()):
        ours, theirs = (found.get(name, "none") for found in (mine, told.versions))
        if ours != theirs:
            return f"it has {name} {theirs}, the emulator {ours}: install one version on all nodes"
    return ""
