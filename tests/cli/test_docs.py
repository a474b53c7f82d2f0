"""Pages that are generated are what the code generates; the page of commands names every command."""

from pathlib import Path

from ftsim.cli.commands import COMMANDS
from ftsim.tools import docs

PAGES = Path(__file__).parents[2] / "docs"


def test_the_page_of_kinds_is_what_the_code_says() -> None:
    assert (PAGES / "checkpoint-kinds.md").read_text("utf-8") == docs.checkpoint_kinds()


def test_the_page_of_commands_names_every_command() -> None:
    page = (PAGES / "cli.md").read_text("utf-8")
    assert [name for name in COMMANDS if f"ftsim {name}" not in page] == []
