"""A local emulator of the Fireworks Training API that really trains: `with ftsim.Emulator() as emu: ...`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftsim.local import Emulator as Emulator

    __version__: str

__all__ = ["Emulator", "__version__"]


def __getattr__(name: str) -> object:
    """Import the server only when somebody wants one: `ftsim.training` must not pull it in."""
    if name == "__version__":
        from importlib import metadata

        try:
            return metadata.version("ftsim-emulator")
        except metadata.PackageNotFoundError:
            return "0+checkout"
    if name == "Emulator":
        from emulator.core import system

        system.check()
        from ftsim.local import Emulator

        return Emulator
    raise AttributeError(f"module 'ftsim' has no attribute {name!r}")
