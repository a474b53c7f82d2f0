"""The systems that this runs on: those whose folders are locked, renamed over and made durable as POSIX has it."""

import sys

SYSTEM = sys.platform
REFUSAL = "ftsim runs on Linux and macOS; on Windows install and run it inside WSL"


def check() -> None:
    """Raise ImportError on a system that lacks what the state folder needs."""
    if SYSTEM == "win32":
        raise ImportError(REFUSAL)
