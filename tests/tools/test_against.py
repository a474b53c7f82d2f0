"""`ftsim bench --against`: its arithmetic, its page, and the other commit's environment."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ftsim.process.environment import PACKAGE_ROOT
from ftsim.tools.bench import against, program
from ftsim.tools.bench.against import CannotCompareError, Row, Side, compare, line, page, side
from tests.conftest import Ftsim

ROWS = [
    Row("promote", Side([9.0, 11.0, 10.0], [5.0, 6.0, 4.0]), Side([30.0, 31.0, 32.0], [20.0, 21.0, 22.0]), 0.3),
    Row("list_slope", Side([1.1], [1.1]), Side([1.7], [1.7]), None),
]


def same(row: Row) -> Row:
    """A row of a version beside itself, which is as slow."""
    return Row(row.name, row.there, row.there, row.target)


def test_every_measurement_has_a_program() -> None:
    assert list(program.MEASURES) == list(against.TARGETS)


def test_the_ratio_is_that_of_median_cpu_and_a_line_tells_both_sides() -> None:
    assert ROWS[0].ratio == pytest.approx(5 / 21)
    assert line(ROWS[0]).split() == [
        "ok",
        "promote",
        "0.24",
        "<=",
        "0.3",
        "wall",
        "9–10",
        "/",
        "30–31",
        "CPU",
        "4–5",
        "/",
        "20–21",
    ]
    assert line(Row("promote", ROWS[0].there, ROWS[0].here, 0.3)).startswith("MISSED promote")


def test_the_page_says_what_was_measured_and_under_which_load() -> None:
    written = page(ROWS, "abc", [0.4, 1.6])
    assert "--against abc" in written
    assert "a load\nof 0.4 to 1.6" in written
    assert "| `promote` | 0.24 | ≤ 0.3 | 9–10 | 30–31 | 4–5 | 20–21 |" in written
    assert all(len(row) <= 140 for row in written.splitlines())
    assert {f"`{name}`" for name in against.TARGETS} <= set(written.replace(":", " ").replace(",", " ").split())


def test_a_round_counts_as_its_median_and_a_number_as_itself() -> None:
    assert side([[[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]], 1.5]) == Side([3.0, 1.5], [4.0, 1.5])


def test_both_versions_take_turns_and_the_first_turn_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    @contextmanager
    def environment(ref: str, root: Path) -> Iterator[Path]:
        yield Path("other")

    def measured(python: Path, name: str, package_root: Path | None) -> object:
        asked.append("there" if package_root is None else "here")
        return [[float(len(asked)), 1.0]]

    monkeypatch.setattr(against, "environment", environment)
    monkeypatch.setattr(against, "measured", measured)
    (row,) = compare("abc", ["promote"], rounds=2)
    assert asked == ["here", "there"] * 3
    assert (row.here.wall, row.there.wall) == ([3.0, 5.0], [4.0, 6.0])


def test_a_call_is_timed_by_both_clocks_after_some_that_are_not() -> None:
    calls: list[int] = []
    times = program.timed(lambda: calls.append(1), 3, warm_up=2)
    assert (len(times), len(calls)) == (3, 5)
    assert all(wall >= 0 and cpu >= 0 for wall, cpu in times)


def test_a_commit_that_there_is_not_is_named(tmp_path: Path) -> None:
    with pytest.raises(CannotCompareError, match="git -C"), against.environment("no-such-ref", tmp_path):
        pass


def test_the_command_shows_rows_and_load_and_refuses_what_is_not_measured(
    ftsim: Ftsim, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(against, "compare", lambda ref, names, rounds: iter(ROWS))
    done = ftsim("bench", "--against", "abc", "--page", str(tmp_path / "page.md"))
    assert done.exit_code == 0
    assert done.stdout.splitlines()[0].split()[-2] == "load"
    assert (tmp_path / "page.md").read_text("utf-8").startswith("# What people wait for\n")
    told = json.loads(ftsim("bench", "--against", "abc", "--json").stdout)
    assert [row["name"] for row in told["rows"]] == ["promote", "list_slope"]
    assert told["load"]
    for words in (["--against", "abc", "--only", "nope"], ["--profile", "nope"]):
        refused = ftsim("bench", *words)
        assert refused.exit_code == 2
        assert "there is no measurement 'nope'; there are lifecycle_test" in refused.stderr
    monkeypatch.setattr(against, "compare", lambda ref, names, rounds: iter([same(ROWS[0])]))
    assert ftsim("bench", "--against", "abc").exit_code == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in program.MEASURES if name != "list_slope"])
def test_every_program_measures_this_version(name: str) -> None:
    import sys

    found = side([against.measured(Path(sys.executable), name, PACKAGE_ROOT)])
    assert found.wall[0] > 0
