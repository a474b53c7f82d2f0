"""Every failure of docs/failures.md that can be caused, reproduced: one module for each id, `ftsim reproduce A1`.

A module has

    ID = "A1"                                  # the entry of the catalogue
    TITLE = "one list mixes two precisions"    # what goes wrong, in a line
    UPSTREAM = "fireworks-ai 1.2.28"           # only where the fault is the vendor client's: the last version with it

    def reproduce(stage: Stage) -> Report: ...

`reproduce` causes the failure, claims what it found (`claim`, `still_upstream`), and has a right client survive it.
"""

import pkgutil
import re
import time
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

from ftsim.scenarios.report import Report

_MODULE = re.compile(r"[a-f][0-9]{2}")


@dataclass(frozen=True)
class Scenario:
    """One module, described."""

    id: str
    title: str
    upstream: str
    module: ModuleType

    def run(self, backend: Any = None) -> Report:
        """Reproduce on a fresh stage; raises ScenarioFailed."""
        from ftsim.scenarios.stage import Stage

        with Stage(backend or shared_backend()) as stage:
            report = self.module.reproduce(stage)
            assert isinstance(report, Report)
            return report


@dataclass(frozen=True)
class Outcome:
    """What became of one run; `error` is empty when the failure was reproduced."""

    scenario: Scenario
    seconds: float
    report: Report | None = None
    error: str = ""


@cache
def scenarios() -> tuple[Scenario, ...]:
    """All of them, in the catalogue's order."""
    names = sorted(found.name for found in pkgutil.iter_modules(__path__) if _MODULE.fullmatch(found.name))
    modules = [import_module(f"{__name__}.{name}") for name in names]
    return tuple(Scenario(m.ID, m.TITLE, getattr(m, "UPSTREAM", ""), m) for m in modules)


def find(identifier: str) -> Scenario | None:
    """The scenario of an id, in any spelling: D6, d6, d06."""
    match = re.fullmatch(r"([a-fA-F])0*([0-9]+)", identifier.strip())
    wanted = f"{match[1].upper()}{match[2]}" if match else ""
    return next((scenario for scenario in scenarios() if scenario.id == wanted), None)


def attempt(scenario: Scenario) -> Outcome:
    """Run a scenario and keep whatever it raises."""
    started = time.perf_counter()
    try:
        report = scenario.run()
    except Exception as error:
        return Outcome(scenario, time.perf_counter() - started, error=f"{type(error).__name__}: {error}")
    return Outcome(scenario, time.perf_counter() - started, report)


@cache
def shared_backend() -> Any:
    """One backend per process, so that base models are prepared once."""
    from ftsim.compute.backend import TorchBackend

    backend = TorchBackend(device="cpu", dtype="float32")
    backend.warm()
    return backend
