"""A pretend Fireworks training platform: HTTP surface, state, rules. Never imports torch, never imports ftsim.

Start reading in `emulator.core.kinds`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emulator.server import Emulator as Emulator

__all__ = ["Emulator"]


def __getattr__(name: str) -> object:
    """Import the server only when somebody wants one; the rules alone stay light."""
    if name == "Emulator":
        from emulator.core import system

        system.check()
        from emulator.server import Emulator

        return Emulator
    raise AttributeError(f"module 'emulator' has no attribute {name!r}")
