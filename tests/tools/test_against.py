"""`ftsim bench --against`: its arithmetic, its page, and the other commit's environment."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ftsim.process.environment import PACKAGE_ROOT
from ftsim.tools.bench import against, performance_page, program
from ftsim.tools.bench.against import CannotCompareError, Row, Side, compare, keep, kept, line, side
from ftsim.tools.bench.performance_page import page
from tests.conftest import Ftsim

ROWS = [
    Row("promote", Side([9.0, 11.0, 10.0], [5.0, 6.0, 4.0]), Side([30.0, 31.0, 32.0], [20.0, 21.0, 22.0]), 0.3, 0.4),
    Row("list_slope", Side([1.1], [1.1]), Side([1.7], [1.7]), None, 1.6),
]


def same(row: Row) -> Row:
    """A row of a version beside itself, which is as slow."""
    return Row(row.name, row.there, row.there, row.target)


def test_every_measurement_has_a_program() -> None:
    assert list(program.MEASURES) == list(against.TARGETS)


def test_the_ratio_is_that_of_median_cpu_unless_wall_times_are_alike_and_a_line_tells_both_sides() -> None:
    assert ROWS[0].ratio == pytest.approx(5 / 21)
    alike = Side([10.0, 10.5, 10.2], [1.0, 2.0, 3.0])
    assert Row("promote", alike, Side([20.0, 20.4, 20.5], [9.0, 9.0, 9.0]), None).ratio == pytest.approx(10.2 / 20.4)
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
        "load",
        "0.4",
    ]
    assert line(Row("promote", ROWS[0].there, ROWS[0].here, 0.3)).startswith("MISSED promote")


FAILED = Row("cold_run", Side([], []), Side([], []), 0.45, 0.2, "cold_run took more than 180 s\nwith python")


def test_the_page_says_what_was_measured_under_which_load_and_what_does_not_hold() -> None:
    missed = Row("create_lora", ROWS[0].there, ROWS[0].there, 0.3, 0.5)
    written = page([*ROWS, missed, FAILED], "abc", 3)
    flat = " ".join(written.split())
    assert "--against abc" in written
    assert "had 3 cores and a load of 0.4 to 1.6" in flat
    assert "| `promote` | 0.24 (CPU) | ≤ 0.3 | 9–10 | 30–31 | 4–5 | 20–21 |" in written
    assert all(len(row) <= 120 for row in written.splitlines() if not row.startswith("|"))
    lost = " ".join(written.partition("## What does not hold")[2].split())
    assert f"- `create_lora` is 1.00 and not 0.3: {performance_page.WHY['create_lora']}." in lost
    assert "- `cold_run` has no figures: cold_run took more than 180 s with python" in lost
    assert "- `one_token` was not measured." in lost
    assert "promote" not in lost
    assert all(f"- `{name}`: " in written for name in against.TARGETS)


def test_every_row_has_its_sentence_and_what_has_a_target_its_reason() -> None:
    assert performance_page.WHAT.keys() == against.TARGETS.keys()
    assert performance_page.WHY.keys() == {name for name, target in against.TARGETS.items() if target is not None}


def test_a_program_that_fails_or_does_not_end_is_a_row_that_says_so_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "program.py"
    file.write_text("""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
if sys.argv[1] == "promote":
    sys.exit("it broke")
if sys.argv[1] == "create_lora":
    time.sleep(60)
print([[2.0, 1.0]])
""")

    @contextmanager
    def environment(ref: str, root: Path) -> Iterator[Path]:
        yield Path(sys.executable)

    monkeypatch.setattr(against, "environment", environment)
    monkeypatch.setattr(against, "PROGRAM", file)
    monkeypatch.setattr(against.measured, "__kwdefaults__", {"profile": False, "timeout_s": 2.0})
    broken, slow, good = compare("abc", ["promote", "create_lora", "one_token"], rounds=1)
    assert "it broke" in broken.failed
    assert "took more than 2 s" in slow.failed
    assert (good.here, good.there, good.failed) == (Side([2.0], [1.0]), Side([2.0], [1.0]), "")
    assert line(broken).startswith("FAILED promote ")
    assert not broken.ok


def test_rows_are_kept_but_those_that_failed_and_those_of_another_commit(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    assert kept(file, "abc") == []
    for row in (*ROWS, FAILED):
        keep(file, "abc", row)
    keep(file, "other", Row("one_token", ROWS[0].here, ROWS[0].there, None))
    with file.open("a") as opened:
        opened.write('{"ref": "abc", "row": {"na')
    assert kept(file, "abc") == list(ROWS)


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
    words = ["bench", "--against", "abc", "--rows", str(tmp_path / "rows.jsonl")]
    ftsim(*words)
    monkeypatch.setattr(against, "compare", lambda ref, names, rounds: iter([FAILED] if "promote" not in names else []))
    again = ftsim(*words, "--page", str(tmp_path / "again.md"))
    assert "| `promote` | 0.24 (CPU) |" in (tmp_path / "again.md").read_text("utf-8")
    assert (again.exit_code, again.stdout.count("(kept)"), again.stdout.count("FAILED")) == (1, 2, 1)
    monkeypatch.setattr(against, "compare", lambda ref, names, rounds: iter(ROWS))
    assert (tmp_path / "page.md").read_text("utf-8").startswith("# What people wait for\n")
    told = json.loads(ftsim("bench", "--against", "abc", "--json").stdout)
    assert [row["name"] for row in told["rows"]] == ["promote", "list_slope"]
    assert [row["load"] for row in told["rows"]] == [0.4, 1.6]
    for words in (["--against", "abc", "--only", "nope"], ["--profile", "nope"]):
        refused = ftsim("bench", *words)
        assert refused.exit_code == 2
        assert "there is no measurement 'nope'; there are lifecycle_test" in refused.stderr
    monkeypatch.setattr(against, "compare", lambda ref, names, rounds: iter([same(ROWS[0])]))
    assert ftsim("bench", "--against", "abc").exit_code == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in program.MEASURES if name != "list_slope"])
def test_every_program_measures_this_version(name: str) -> None:
    found = side([against.measured(Path(sys.executable), name, PACKAGE_ROOT)])
    assert found.wall[0] > 0
