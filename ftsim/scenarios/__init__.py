"""Every failure of docs/failures.md that can be caused, reproduced, in modules by subject: `ftsim reproduce A1`.

A failure is a function of one of these modules; nothing else has to be changed to add one:

    @scenario("A1", "what goes wrong, in a line")
    def mixed_precision_sorts_wrong(stage: Stage) -> Report: ...

It causes the failure, claims what it found (`claim`, `still_upstream`), and has a right client survive it. `upstream`
is given only where the fault is the vendor client's: the last version that has it.
"""

import pkgutil
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ftsim.scenarios.support.report import Report

if TYPE_CHECKING:
    from ftsim.scenarios.support.stage import Stage

_NO_SUBJECTS = ("coverage", "support")


@dataclass(frozen=True)
class Scenario:
    """One entry of the catalogue and the function that reproduces it."""

    id: str
    title: str
    upstream: str
    reproduce: "Callable[[Stage], Report]"

    def run(self, backend: Any = None) -> Report:
        """Reproduce on a fresh stage; raises ScenarioFailed."""
        from ftsim.scenarios.support.stage import open_stage

        with open_stage(backend or shared_backend()) as stage:
            report = self.reproduce(stage)
            assert isinstance(report, Report)
            return report


def scenario(identifier: str, title: str, *, upstream: str = "") -> "Callable[[Callable[[Stage], Report]], Scenario]":
    """The decorator that makes a function of a module by subject the scenario of an entry of the catalogue."""
    return lambda reproduce: Scenario(identifier, title, upstream, reproduce)


@dataclass(frozen=True)
class Outcome:
    """The outcome of one run; `error` is empty when the failure was reproduced."""

    scenario: Scenario
    seconds: float
    report: Report | None = None
    error: str = ""


@cache
def scenarios() -> tuple[Scenario, ...]:
    """All of them, in the catalogue's order."""
    subjects = [found.name for found in pkgutil.iter_modules(__path__) if found.name not in _NO_SUBJECTS]
    modules = [import_module(f"{__name__}.{subject}") for subject in subjects]
    found = [value for module in modules for value in vars(module).values() if isinstance(value, Scenario)]
    return tuple(sorted(found, key=lambda one: (one.id[0], int(one.id[1:]))))


def find(identifier: str) -> Scenario | None:
    """The scenario of an id, in any spelling: D6, d6, d06."""
    match = re.fullmatch(r"([a-zA-Z])0*([0-9]+)", identifier.strip())
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
