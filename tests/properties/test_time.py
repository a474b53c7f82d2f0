"""Stamps of every precision read back what they say, and sort as the moments they stand for."""

import itertools
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from emulator.core.clock import SECOND, Clock, parse_rfc3339, rfc3339
from ftsim.testing.strategies import PRECISIONS, moments, rows
from ftsim.training.checkpoints.rows import parse_time, read_rows

UNIT = {0: SECOND, 3: 1000, 6: 1, 9: 1}


@given(moments(), st.sampled_from(PRECISIONS))
def test_a_stamp_reads_back_what_its_precision_can_say(moment: int, digits: int) -> None:
    stamp = rfc3339(moment, digits)
    assert parse_rfc3339(stamp) == moment - moment % UNIT[digits]
    assert parse_time(stamp) == 1000 * parse_rfc3339(stamp)
    assert datetime.fromisoformat(stamp).tzinfo == UTC


@given(moments(), st.sampled_from([3, 6, 9]), st.integers(-14 * 60, 14 * 60))
def test_a_zone_does_not_change_the_moment(moment: int, digits: int, minutes: int) -> None:
    zone = timezone(timedelta(minutes=minutes))
    local = datetime.fromtimestamp(moment // SECOND, zone).isoformat()
    head, offset = local[:19], local[19:]
    fraction = f"{moment % SECOND:06d}000"[:digits]
    assert parse_rfc3339(f"{head}.{fraction}{offset}") == moment - moment % UNIT[digits]


@given(st.lists(st.tuples(moments(), st.sampled_from(PRECISIONS)), max_size=8))
@example([(500_000, 6), (0, 0)])
def test_stamps_of_mixed_precision_sort_as_what_they_say(stamped: list[tuple[int, int]]) -> None:
    stamps = [rfc3339(moment, digits) for moment, digits in stamped]
    said = [moment - moment % UNIT[digits] for moment, digits in stamped]
    assert [parse_rfc3339(stamp) for stamp in sorted(stamps, key=parse_rfc3339)] == sorted(said)


@pytest.mark.parametrize("pair", list(itertools.product(PRECISIONS, repeat=2)), ids=str)
@given(moments(), st.integers(1, 10 * SECOND))
def test_a_later_stamp_never_sorts_before_an_earlier_one(pair: tuple[int, int], moment: int, gap: int) -> None:
    first, second = rfc3339(moment, pair[0]), rfc3339(moment + gap, pair[1])
    lost = max(UNIT[digits] for digits in pair) - 1
    assert parse_rfc3339(second) - parse_rfc3339(first) in range(gap - lost, gap + lost + 1)


@given(rows())
def test_a_listing_of_mixed_precision_reads_newest_first(listing: list[dict[str, Any]]) -> None:
    assert [row.name for row in read_rows(listing)] == [row["name"] for row in reversed(listing)]
    assert [row.promotable for row in read_rows(listing)] == [row.get("promotable", False) for row in reversed(listing)]


@given(st.text("0123456789-:.TZ+ ", max_size=35) | moments().map(rfc3339) | st.text(max_size=30))
def test_any_text_is_a_time_or_a_value_error(text: str) -> None:
    for parse in (parse_rfc3339, parse_time):
        try:
            assert isinstance(parse(text), int)
        except ValueError:
            continue


@given(st.lists(st.one_of(st.integers(-(10**12), 10**12), st.tuples(st.floats(0, 1e7))), max_size=30))
def test_the_clock_only_moves_forward(events: list[int | tuple[float]]) -> None:
    """Whatever the wall clock does, and however far a test advances."""
    wall = [10**18]
    clock = Clock(lambda: wall[0])
    seen = [clock.now()]
    for event in events:
        if isinstance(event, tuple):
            clock.advance(event[0])
            seen.append(clock.now())
        else:
            wall[0] += event
            seen.append(clock.now())
    assert all(earlier < later for earlier, later in itertools.pairwise(seen))


@given(st.lists(st.tuples(st.sampled_from(["pass", "advance", "wait", "look"]), st.integers(0, 100)), max_size=30))
def test_a_held_clock_measures_what_was_advanced_and_waited(events: list[tuple[str, int]]) -> None:
    """Against a plain account: durations grow by what is advanced, and by real time until the end of a wait."""
    wall = [10**18]
    clock = Clock(lambda: wall[0], held=True)
    begun, stamp = clock.ticks(), clock.now()
    passed = runs = 0
    for what, seconds in events:
        if what == "pass":
            wall[0] += seconds * 10**9
            passed, runs = passed + min(seconds, runs), max(0, runs - seconds)
        elif what == "advance":
            clock.advance(seconds)
            passed, runs = passed + seconds, max(0, runs - seconds)
        elif what == "wait":
            assert clock.reached(begun + (passed + seconds) * SECOND) == (seconds == 0)
            runs = max(runs, seconds)
        assert abs(clock.ticks() - begun - passed * SECOND) < 1000
        assert abs(clock.since(stamp) - passed * SECOND) < 1000


@given(moments(), moments())
def test_a_saved_world_continues_after_its_last_moment(wall: int, last: int) -> None:
    clock = Clock(lambda: wall * 1000)
    clock.start_after(last)
    begun = clock.now()
    assert begun >= max(wall, last + 1)
    clock.advance(3600)
    assert clock.now() >= begun + 3600 * SECOND - 1
