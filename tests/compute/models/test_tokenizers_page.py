"""docs/tokenizers.md has every family and every difference, as they are."""

from ftsim.compute.models.families import FAMILIES
from tests.renderers import table


def test_the_page_is_generated() -> None:
    assert table.section() in table.PAGE.read_text("utf-8")


def test_every_family_has_a_row_with_its_tokens() -> None:
    head = table.PAGE.read_text("utf-8").partition(table.HEADING)[0]
    rows = [line for line in head.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == len(FAMILIES) - 1  # both of Kimi K2 stand in one
    ends = {family.end.replace("|", "\\|") for family in FAMILIES.values() if family.end != "<|endoftext|>"}
    assert all(end in head for end in ends - {"<eos>"})
    assert all(family.padding.replace("|", "\\|") in head for family in FAMILIES.values())
