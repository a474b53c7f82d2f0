"""The pages for those who work on ftsim name files that there are."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / ".github/CONTRIBUTING.md").read_text("utf-8")


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`((?:emulator|ftsim|tests|docs)/[a-z_/.]+)`", PAGE))))
def test_what_the_page_names_is_there(name: str) -> None:
    assert (ROOT / name).exists()


def test_every_folder_of_tests_mirrors_a_room_or_is_explained() -> None:
    explained = set(re.findall(r"`(\w+)/`", (ROOT / "tests/README.md").read_text("utf-8")))
    rooms = {path.name for package in ("emulator", "ftsim") for path in (ROOT / package).iterdir() if path.is_dir()}
    here = {path.parent.name for path in (ROOT / "tests").glob("*/__init__.py")}
    assert here - rooms - explained == set()
