"""For users' own tests: strategies, the machine that looks for holes in a checkpoint manager, and the pytest plugin.

    from ftsim.testing import CheckpointManagerMachine, checkpoint_names, rows, save_histories

Names are imported when first used, so that the plugin costs nothing where nobody uses it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ftsim.testing.faults import ManagerFault as ManagerFault
    from ftsim.testing.managers import (
        CheckpointManagerMachine as CheckpointManagerMachine,
        check_checkpoint_manager as check_checkpoint_manager,
    )
    from ftsim.testing.strategies import (
        checkpoint_names as checkpoint_names,
        rows as rows,
        save_histories as save_histories,
    )

_HOMES = {
    "CheckpointManagerMachine": "managers",
    "ManagerFault": "faults",
    "check_checkpoint_manager": "managers",
    "checkpoint_names": "strategies",
    "rows": "strategies",
    "save_histories": "strategies",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"ftsim.testing.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'ftsim.testing' has no attribute {name!r}")
