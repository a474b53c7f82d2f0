"""`ftsim demo`."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    keep: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Work in this folder and leave it.", show_default=False)
    ] = None,
) -> None:
    """Train, kill, resume, promote, open.

    The main job on a shipped chat data set, for LoRA and for full-parameter, checked at every step."""
    from ftsim.extras import require

    require("train", "the demo's runs")
    from ftsim.tools.demo import show

    raise SystemExit(show(keep))
