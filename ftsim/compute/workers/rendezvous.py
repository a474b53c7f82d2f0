"""The messages of a rendezvous, where the machines of a trainer group meet, and what each of them says of itself.

A node, which is a machine that lends ranks, connects and stays connected; each rank, of whichever machine, connects for
the life of a group.
"""

import contextlib
import os
import platform
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ftsim.compute.workers.messages import GIVES_BACK

SECRET = "FTSIM_TRAINER_SECRET"
SECRET_FILE = "trainer-secret"
_SIOCGIFADDR = 0x8915
_PACKAGES = ("ftsim-emulator", "torch", "transformers")


@dataclass(frozen=True)
class Join:
    """A node has come, with so many ranks to lend."""

    nproc: int
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Look:
    """Asks a node whether it sees files of the emulator, by path and content, and to write one beside each."""

    files: Mapping[Path, str]


@dataclass(frozen=True)
class Seen:
    """The files of a `Look` that a node did not see or could not write beside, and why."""

    missing: Mapping[Path, str]


@dataclass(frozen=True)
class Welcome:
    """A node belongs to the emulator's from now on."""

    nodes: int


@dataclass(frozen=True)
class Refused:
    """A node cannot take part, and why."""

    why: str


@dataclass(frozen=True)
class Start:
    """Asks a node for ranks of a group: those from `first` on, of `world`, which meet at a port of the emulator's."""

    life: str
    first: int
    world: int
    store_port: int
    threads: str


@dataclass(frozen=True)
class Stop:
    """Asks a node to end the ranks that it has started."""


@dataclass(frozen=True)
class Rank:
    """A rank of a group has come."""

    life: str
    rank: int
    pid: int


def endpoint(text: str, usual_port: int = 29400) -> tuple[str, int]:
    """Host and port of a rendezvous, written HOST[:PORT] or [IPV6]:PORT; raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(usual_port)
    if not host or not port.isdecimal() or not 0 <= int(port) < 65536:
        raise ValueError(f"{text[:80]!r} is no rendezvous endpoint: write HOST:PORT")
    return host.strip("[]"), int(port)


def versions() -> dict[str, str]:
    """The versions that all machines of a group have alike: they exchange pickled objects, and numbers."""
    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def interface_of(address: str) -> str | None:
    """The name of this machine's network interface that has an IPv4 address; None where that cannot be told."""
    if sys.platform != "linux":
        return None
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):
                found = fcntl.ioctl(asking, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                own = socket.inet_ntoa(found[20:24])
                if own == address or (own.startswith("127.") and address.startswith("127.")):
                    return name
    return None


def started(
    command: Sequence[str], start: Start, count: int, meeting: tuple[str, int], here: str, secret: str, worker: str
) -> "list[subprocess.Popen[bytes]]":
    """Start ranks of a group on this machine: they meet at `meeting`, and reach each other from the address `here`."""
    usual = interface_of(here)
    found = []
    for local in range(count):
        told = {
            "RANK": str(start.first + local),
            "LOCAL_RANK": str(local),
            "LOCAL_WORLD_SIZE": str(count),
            "WORLD_SIZE": str(start.world),
            "MASTER_ADDR": meeting[0],
            "MASTER_PORT": str(start.store_port),
            "OMP_NUM_THREADS": start.threads,
            SECRET: secret,
            worker: f"{start.life}@{meeting[0]}:{meeting[1]}",
        }
        environment = {**GIVES_BACK, **os.environ, **told}
        if usual is not None:
            environment.setdefault("GLOO_SOCKET_IFNAME", usual)  # else by the name of the host, whatever that leads to
        found.append(
            subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # signals of a terminal are for who has started it
            )
        )
    return found
