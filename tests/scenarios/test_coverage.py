"""Every entry of the catalogue is reproduced; every switch is hooked, used and documented."""

import re
from functools import cache
from pathlib import Path

import pytest

from emulator.quirks import (
    billing,
    calls,
    deployments,
    inference,
    jobs,
    loads,
    managed,
    promotion,
    rows,
    saves,
    trainers,
)
from emulator.quirks.engine import Quirk
from emulator.quirks.table import QUIRKS
from ftsim.scenarios import coverage, scenarios

ROOT = Path(__file__).parents[2]
FAILURES = (ROOT / "docs/failures.md").read_text("utf-8")
OFF = ("rows.time_precision", "dcp.rename")
WAITING: frozenset[str] = frozenset()
"""Entries of the catalogue without a scenario so far."""
NAMES = [quirk.name for quirk in QUIRKS]
MODULES = (billing, calls, deployments, inference, jobs, loads, managed, promotion, rows, saves, trainers)
CONSTANTS = {quirk.name: name for module in MODULES for name, quirk in vars(module).items() if isinstance(quirk, Quirk)}


@cache
def mentioned(*folders: str) -> frozenset[str]:
    """Everything in double quotes in the code below some folders."""
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return frozenset(name for path in files for name in re.findall(r'"([^"\n]+)"', path.read_text("utf-8")))


@cache
def asked() -> frozenset[str]:
    """Every constant of a module that the emulator names outside the declarations, as in `rows.OMIT`."""
    files = [path for path in (ROOT / "emulator").rglob("*.py") if path.parent.name != "quirks"]
    return frozenset(name for path in files for name in re.findall(r"\w\.([A-Z][A-Z_]+)\b", path.read_text("utf-8")))


def test_the_catalogue_has_its_entries() -> None:
    found = coverage.entries(FAILURES)
    counts = {letter: sum(entry.id[0] == letter for entry in found) for letter in "ABCDEFGH"}
    assert counts == {"A": 18, "B": 16, "C": 32, "D": 20, "E": 42, "F": 25, "G": 9, "H": 5}


def test_every_entry_is_reproduced() -> None:
    known = {entry.id for entry in coverage.entries(FAILURES)}
    found = [scenario.id for scenario in scenarios()]
    assert len(set(found)) == len(found)
    assert set(found) == known - WAITING


def test_what_is_off_although_the_service_does_it_is_said() -> None:
    always = {entry.id for entry in coverage.entries(FAILURES) if entry.default}
    assert {"A1", "A7", "A8", "A16", "B6", "C1", "E14", "F13"} <= always
    assert not {"A2", "A6", "E7", "F1"} & always
    defaults = {name: quirk.default for quirk in QUIRKS for name in quirk.failures if quirk.name in OFF}
    assert {name for name in defaults if name in always} == coverage.OPT_IN.keys()


def test_the_generated_pages_are_current() -> None:
    assert coverage.with_coverage(FAILURES) == FAILURES, "run: python -m ftsim.scenarios.coverage"
    assert coverage.quirks() == (ROOT / "docs/quirks.md").read_text("utf-8"), "run: python -m ftsim.scenarios.coverage"


def test_names_are_unique_and_cite_the_catalogue() -> None:
    assert len(set(NAMES)) == len(NAMES)
    known = {entry.id for entry in coverage.entries(FAILURES)}
    assert {name for quirk in QUIRKS for name in quirk.failures} <= known


@pytest.mark.parametrize("name", NAMES)
def test_a_quirk_has_a_hook_and_is_used(name: str) -> None:
    assert CONSTANTS[name] in asked(), f"nothing asks for {name}"
    assert name in mentioned("tests", "ftsim/scenarios"), f"no test or scenario sets {name}"
