"""Runs a program through kills and failures, and judges what it made of them."""

from ftsim.torture.evidence import Evidence, gather
from ftsim.torture.run import Disturbance, TortureError, Verdict, plan, torture
from ftsim.torture.verdict import compare

__all__ = ["Disturbance", "Evidence", "TortureError", "Verdict", "compare", "gather", "plan", "torture"]
