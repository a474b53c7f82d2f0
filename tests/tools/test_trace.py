"""The figures of docs/architecture.md: how far a request wanders from file to file."""

import re
from pathlib import Path

import pytest

from tests.tools.trace import WALKS, walks

PAGE = (Path(__file__).parents[2] / "docs/architecture.md").read_text("utf-8")
ROW = re.compile(r"^\| (\w+)[^|]*\| \d+ \| \d+ \| (\d+) \| (\d+) \|", re.M)
MORE = 12
"""Jumps of a heartbeat, or of a second poll for a result, that the shortest of three walks may still have."""


@pytest.fixture(scope="module")
def said() -> dict[str, tuple[int, int]]:
    """Files and jumps of today, by walk, as the page has them."""
    return {name: (int(files), int(jumps)) for name, files, jumps in ROW.findall(PAGE)}


def test_a_walk_takes_as_many_jumps_as_the_page_says(said: dict[str, tuple[int, int]]) -> None:
    assert tuple(said) == WALKS
    for name, walk in walks().items():
        files, jumps = said[name]
        assert abs(len(walk.calls) - files) <= 2, f"{name}: {walk}"
        assert jumps - MORE <= len(walk.jumps) <= jumps + MORE, f"{name}: {walk}"
        assert set(walk.calls) >= {"http/entrance.py", "http/guard.py", "journal/journal.py"}
