"""A worker whose ranks are on several machines: those of this one come first, then those of each node that joined."""

import contextlib
import os
import secrets
import socket
import subprocess
from collections.abc import Sequence

from ftsim.compute.workers import rendezvous
from ftsim.compute.workers.messages import Settings
from ftsim.compute.workers.nodes import AliveCheck, Node, Nodes
from ftsim.compute.workers.process import ADDRESS
from ftsim.compute.workers.rendezvous import Start, Stop
from ftsim.compute.workers.worker import PATIENCE_S, Channel, Worker, command, ended


class SpreadWorker(Worker):
    """`ranks` processes of this machine, and those of the nodes, formed anew for each life of the group."""

    def __init__(self, settings: Settings, ranks: int, nodes: Nodes) -> None:
        super().__init__(settings, ranks)
        self._nodes = nodes
        self._here: list[subprocess.Popen[bytes]] = []
        self._lent: Sequence[Node] = ()

    def start(self) -> None:
        """Start the ranks where the nodes for them are here; those that come later are started when they are needed."""
        if self._nodes.complete:
            super().start()

    def _launched(self) -> Sequence[Channel]:
        self._nodes.listen()
        self._lent = self._nodes.joined()
        here = self._nodes.address
        life = secrets.token_hex(8)
        world = self._ranks + sum(node.nproc for node in self._lent)
        port = _free_port(self._nodes.meeting.host)
        threads = os.environ.get("OMP_NUM_THREADS", "1")
        self._nodes.begin(life)
        own = self._lent[0].connection.here if self._lent else here[0]
        self._here = rendezvous.started(
            command(), Start(life, 0, world, port, threads), self._ranks, here, own, self._nodes.meeting.secret, ADDRESS
        )
        first = self._ranks
        for node in self._lent:
            node.connection.send(Start(life, first, world, port, threads))
            first += node.nproc
        found = self._nodes.met(world, PATIENCE_S, alive=AliveCheck(self._here, self._lent))
        self.pids = [pid for pid, _ in found]
        return [connection for _, connection in found]

    def _end(self) -> None:
        self._nodes.begin("")
        for node in self._lent:
            with contextlib.suppress(OSError):
                node.connection.send(Stop())
        ended(self._here)
        self._here = []

    def _how(self) -> str:
        lost = sum(node.lost for node in self._lent)
        return f": {lost} of {len(self._lent)} nodes are lost" if lost else ""


def _free_port(host: str) -> int:
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as free:
        return int(free.getsockname()[1])
