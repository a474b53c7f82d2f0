"""Everything that docs/wire.md infers has a check that a key would settle it with, or a reason why none could."""

from pathlib import Path

from emulator.quirks.table import QUIRKS
from ftsim.tools.contract import CHECKS
from ftsim.tools.contract.marks import MARKS, SWITCHES, inferred, mark_of, page

DOCS = Path(__file__).parents[3] / "docs"
WIRE = (DOCS / "wire.md").read_text("utf-8")
NAMES = {check.name for check in CHECKS}


def test_every_fact_that_is_inferred_has_one_mark_and_every_mark_a_fact() -> None:
    lines = [line for _, line in inferred(WIRE)]
    used = [mark_of(line) for line in lines]
    assert len(lines) > 50
    assert len(set(used)) == len(used)
    assert set(MARKS) == set(used)


def test_a_mark_names_checks_that_there_are_or_says_why_there_is_none() -> None:
    for mark in MARKS:
        assert set(mark.checks) <= NAMES, mark
        assert mark.checks or len(mark.why) > 20, mark


def test_every_switch_that_says_that_it_is_inferred_is_listed_and_there_is_no_other() -> None:
    says = {quirk.name for quirk in QUIRKS if "inferred" in quirk.doc or "not known" in quirk.doc}
    assert says <= SWITCHES.keys()
    assert SWITCHES.keys() <= {quirk.name for quirk in QUIRKS}
    for name in SWITCHES.keys() - says:
        assert f"`{name}`" in "".join(line for _, line in inferred(WIRE)), name
    assert {one for names in SWITCHES.values() for one in names} <= NAMES


def test_every_check_says_what_it_costs() -> None:
    assert all(check.cost for check in CHECKS)
    assert {check.part for check in CHECKS} == {"read", "job", "deployment", "pool"}


def test_the_page_is_what_the_table_says() -> None:
    assert (DOCS / "unverified.md").read_text("utf-8") == page(WIRE)
