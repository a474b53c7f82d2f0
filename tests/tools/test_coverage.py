"""docs/coverage.md says what is answered today: it is generated again and compared."""

import gc
from importlib.metadata import version
from pathlib import Path

import pytest

from ftsim.tools.coverage import page
from ftsim.tools.coverage.judge import FAILS, MISSING, UNCALLED

PAGE = (Path(__file__).parents[2] / "docs" / "coverage.md").read_text("utf-8")


@pytest.mark.skipif(
    f"{page.CLIENT_NAME} {version(page.CLIENT_NAME)} " not in " ".join(PAGE.split()),
    reason="the page is about another version of the client",
)
@pytest.mark.filterwarnings("ignore")  # what the client warns of is called all the same
def test_the_page_is_what_calling_finds() -> None:
    found = page.generated(PAGE)
    gc.collect()  # connections that a client left open end here, and not in a test whose warnings are errors
    assert found.splitlines() == PAGE.splitlines(), "python -m ftsim.tools.coverage writes it"


def test_nothing_fails_nothing_is_unknown_and_every_method_is_called() -> None:
    """A new method of the client shows up as one that is not called."""
    table = [line.split("|")[1].strip() for line in PAGE.splitlines() if line.startswith("| ")]
    assert not {FAILS, MISSING, UNCALLED} & set(table)
