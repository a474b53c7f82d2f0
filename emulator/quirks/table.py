"""Lists all quirks, in the order of docs/quirks.md; each is declared in the module of what it is about."""

from typing import Any

from emulator.quirks import calls, deployments, jobs, loads, promotion, rows, saves, trainers
from emulator.quirks.engine import Quirk

QUIRKS: tuple[Quirk[Any], ...] = tuple(
    quirk
    for module in (rows, jobs, saves, loads, trainers, calls, promotion, deployments)
    for quirk in vars(module).values()
    if isinstance(quirk, Quirk)
)
