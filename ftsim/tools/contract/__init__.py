"""The wire contract as checks that run against any server that speaks the API, and a report of where it differs."""

from ftsim.tools.contract.pool import PoolStage
from ftsim.tools.contract.run import CHECKS, COST_WARNING, run
from ftsim.tools.contract.session import Drift, Outcome, Report

__all__ = ["CHECKS", "COST_WARNING", "Drift", "Outcome", "PoolStage", "Report", "run"]
