"""Lists all quirks, in the order of docs/quirks.md; each is declared in the module of what it is about."""

from collections.abc import Mapping
from typing import Any

from emulator.quirks import (
    billing,
    calls,
    deployments,
    inference,
    jobs,
    loads,
    managed,
    promotion,
    rows,
    saves,
    trainers,
)
from emulator.quirks.engine import Quirk

_MODULES = {
    "Rows of a checkpoint list": rows,
    "Jobs": jobs,
    "Saves": saves,
    "Loads": loads,
    "Trainers and sessions": trainers,
    "Any call": calls,
    "Promotion and models": promotion,
    "Deployments and hot-loads": deployments,
    "Answers of a deployment": inference,
    "Data sets and managed jobs": managed,
    "Money": billing,
}
GROUPS: Mapping[str, tuple[Quirk[Any], ...]] = {
    title: tuple(quirk for quirk in vars(module).values() if isinstance(quirk, Quirk))
    for title, module in _MODULES.items()
}
"""The quirks by what they are about."""
QUIRKS: tuple[Quirk[Any], ...] = tuple(quirk for group in GROUPS.values() for quirk in group)
