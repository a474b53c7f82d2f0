"""docs/coverage.md says what is answered today: it is generated again, in part by default, as a whole when there is time."""

from importlib.metadata import version
from pathlib import Path

import pytest

from ftsim.tools.coverage import page
from ftsim.tools.coverage.judge import FAILS, UNCALLED
from ftsim.tools.coverage.stage import opened

PAGE = (Path(__file__).parents[2] / "docs" / "coverage.md").read_text("utf-8")
pytestmark = [
    pytest.mark.skipif(
        f"{page.CLIENT_NAME} {version(page.CLIENT_NAME)} " not in " ".join(PAGE.split()),
        reason="the page is about another version of the client",
    ),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of methods that are called all the same
]


def test_what_the_generic_client_and_plain_requests_are_answered_is_on_the_page() -> None:
    with opened() as stage:
        for group in page.quick(stage):
            assert page.section(group) in PAGE


@pytest.mark.slow
def test_the_whole_page_is_what_calling_finds() -> None:
    assert page.generated() == PAGE


def test_nothing_fails_and_every_method_is_called() -> None:
    """A new method of the client shows up as one that is not called."""
    table = [line.split("|")[1].strip() for line in PAGE.splitlines() if line.startswith("| ")]
    assert not {FAILS, UNCALLED} & set(table)
