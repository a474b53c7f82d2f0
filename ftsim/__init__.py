"""A local emulator of the Fireworks Training API that really trains: `with ftsim.Emulator() as emu: ...`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftsim.local import Emulator as Emulator

__all__ = ["Emulator"]


def __getattr__(name: str) -> object:
    """Import the server only when somebody wants one: `ftsim.training` must not pull it in."""
    if name == "Emulator":
        from ftsim.local import Emulator

        return Emulator
    raise AttributeError(f"module 'ftsim' has no attribute {name!r}")
