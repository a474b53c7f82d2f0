"""The rendezvous of `ftsim serve --trainer-nnodes`: its settings, from options or variables, and its secret."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from emulator.core.errors import InvalidArgument
from emulator.state.folder import BLOBS, kept_secret

if TYPE_CHECKING:
    from ftsim.compute.workers.nodes import Nodes

NNODES = "FTSIM_TRAINER_NNODES"
ENDPOINT = "FTSIM_TRAINER_RDZV_ENDPOINT"


def nodes_of(root: Path | None, nnodes: int | None, endpoint: str | None) -> "Nodes | None":
    """The rendezvous of a state folder, None for one machine; raises InvalidArgument.

    `root` is None where the state is elsewhere. What is None here is as the environment says.
    """
    given = os.environ.get(NNODES, "1")
    if nnodes is None and not given.isdecimal():
        raise InvalidArgument(f"{NNODES} is {given[:40]!r}: write a number of machines")
    count = int(given) if nnodes is None else nnodes
    if count < 2:
        return None
    where = endpoint or os.environ.get(ENDPOINT)
    if not where:
        raise InvalidArgument(
            f"{count} nodes need a place to meet: give --trainer-rdzv-endpoint HOST:PORT, an address of this machine "
            f"that the others reach ({ENDPOINT})"
        )
    if root is None:
        raise InvalidArgument(
            "ranks on several nodes write checkpoints into one folder: give a --state-dir that all nodes share, and "
            "leave out --memory and --database"
        )
    from ftsim.compute.workers.nodes import Meeting, Nodes
    from ftsim.compute.workers.rendezvous import endpoint as parsed

    try:
        host, port = parsed(where)
    except ValueError as error:
        raise InvalidArgument(str(error)) from None
    shared = (root / "base-models", root / BLOBS / ".staging")
    return Nodes(Meeting(host, port, count, _secret(root), shared))


def invitation(nodes: "Nodes", root: Path) -> str:
    """The line that says what is to be run on the other machines."""
    host, port = nodes.meeting.host, nodes.address[1]
    command = f"ftsim trainer-node --state-dir {root} --rdzv-endpoint {host}:{port}"
    return f"ftsim: trainers need {nodes.meeting.nnodes - 1} more nodes; on each run: {command}"


def _secret(root: Path) -> str:
    """The secret of the environment, else that of the folder, made with it and readable by its user alone."""
    from ftsim.compute.workers.rendezvous import SECRET, SECRET_FILE

    if given := os.environ.get(SECRET):
        return given
    root.mkdir(parents=True, exist_ok=True)
    return kept_secret(root / SECRET_FILE)
