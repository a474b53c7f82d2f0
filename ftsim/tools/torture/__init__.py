"""Runs a program through kills and failures, and judges what it made of them."""

from ftsim.tools.torture.evidence import Evidence, gather
from ftsim.tools.torture.run import Disturbance, TortureError, Verdict, plan, torture
from ftsim.tools.torture.verdict import compare

__all__ = ["Disturbance", "Evidence", "TortureError", "Verdict", "compare", "gather", "plan", "torture"]
