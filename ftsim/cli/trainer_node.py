"""`ftsim trainer-node`."""

from typing import Annotated

import typer

from ftsim.cli.console import StateDir, fail


def trainer_node(
    rdzv_endpoint: Annotated[
        str,
        typer.Option(
            envvar="FTSIM_TRAINER_RDZV_ENDPOINT",
            metavar="HOST:PORT",
            help="Where the emulator meets its nodes, as its --trainer-rdzv-endpoint says.",
        ),
    ],
    nproc: Annotated[int, typer.Option(min=1, help="Ranks that this machine lends.")] = 1,
    state_dir: StateDir = None,
    patience: Annotated[float, typer.Option(min=0, help="Seconds to wait for the emulator.")] = 300.0,
) -> None:
    """Lend this machine's processes to the trainer group of an emulator elsewhere, until that goes."""
    from ftsim.compute.workers.rendezvous import endpoint
    from ftsim.extras import require
    from ftsim.process.attendance import default_state_dir

    require("train", "real models")
    from ftsim.compute.workers import node

    try:
        address = endpoint(rdzv_endpoint)
    except ValueError as error:
        fail(str(error), 2)
    root = (state_dir or default_state_dir()).expanduser().resolve()
    raise SystemExit(node.main(address, nproc, root, patience))
