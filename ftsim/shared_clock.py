"""The package that puts processes on one clock, `ftsim_forward`, for whoever makes such a clock or joins it.

It lies among the shims of `ftsim run`, where programs find it under that name; here it is loaded under the same one,
since a process has one clock.
"""

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import ftsim

SHIMS = Path(ftsim.__file__).parent / "process" / "shims"
VARIABLE = "FTSIM_FAST_FORWARD"
"""Names the file of the clock to a process; its PYTHONPATH begins with the shims."""


def package() -> Any:
    """The package `ftsim_forward`, whether or not this process shares a clock."""
    if "ftsim_forward" not in sys.modules:
        sys.path.insert(0, str(SHIMS))
        try:
            importlib.import_module("ftsim_forward")
        finally:
            sys.path.remove(str(SHIMS))
    return sys.modules["ftsim_forward"]


def python_path(rest: str | None) -> str:
    """PYTHONPATH with the shims in front."""
    return f"{SHIMS}{os.pathsep}{rest}" if rest else str(SHIMS)
