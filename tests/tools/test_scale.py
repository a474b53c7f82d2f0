"""`ftsim bench --scale`: its arithmetic, its part of the page, and one thing that grows, really measured."""

import json
from pathlib import Path

import pytest

from ftsim.tools.bench.performance_page import SCALE, page, scale_of, scale_section, with_scale
from ftsim.tools.bench.scale import AXES, Growth, picture, table
from tests.conftest import Ftsim

SQUARE = Growth("rows", {1: 2.0, 10: 200.0, 100: 20_000.0})
LEVEL = Growth("jobs", {1: 3.0, 10: 3.0})


def test_an_exponent_is_the_slope_of_the_logarithms() -> None:
    assert SQUARE.exponent == pytest.approx(2)
    assert LEVEL.exponent == pytest.approx(0)
    assert table([SQUARE])[2] == f"| rows | {AXES['rows'].what} | 1: 2, 10: 200, 100: 2e+04 | 2.00 |"
    drawn = picture([SQUARE, LEVEL])
    assert drawn.startswith("<svg")
    assert ">rows<" in drawn
    assert ">jobs<" in drawn


def test_each_half_of_the_page_is_written_without_the_other() -> None:
    first, second = (scale_section(table([one]), 2, 0.5) for one in (SQUARE, LEVEL))
    head = page([], "abc", 2)
    once = with_scale(head, first)
    assert once.startswith("# What people wait for\n")
    assert scale_of(once) == first
    twice = with_scale(once, second)
    assert twice.count(SCALE) == 1
    assert scale_of(twice) == second
    assert "2e+04" not in twice
    assert scale_of(head) == ""


def test_the_command_measures_and_writes_its_part_and_its_picture(ftsim: Ftsim, tmp_path: Path) -> None:
    asked = tmp_path / "page.md"
    asked.write_text("# Before\n", "utf-8")
    done = ftsim("bench", "--scale", "--only", "clients", "--json", "--page", str(asked))
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)["clients"]
    assert [int(size) for size in found["ms"]] == list(AXES["clients"].sizes)
    assert all(ms > 0 for ms in found["ms"].values())
    assert asked.read_text("utf-8").startswith("# Before\n\n## How cost grows\n")
    assert (tmp_path / "img" / "scale.svg").read_text("utf-8").startswith("<svg")
    assert ftsim("bench", "--scale", "--list").stdout.split() == list(AXES)
    refused = ftsim("bench", "--scale", "--only", "nothing")
    assert refused.exit_code == 2
    assert "there is no 'nothing' to grow" in refused.stderr
