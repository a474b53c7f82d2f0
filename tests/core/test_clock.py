"""Time by example: strictly rising, moved by tests, written in every precision (WIRE 5.4)."""

import pytest

from emulator.core.clock import SECOND, Clock, parse_rfc3339, rfc3339


def test_two_moments_are_never_the_same_even_when_the_wall_clock_stands_or_jumps_back() -> None:
    walls = iter([5_000_000, 5_000_000, 3_000_000, 9_000_000])
    clock = Clock(lambda: next(walls))
    assert [clock.now() for _ in range(4)] == [5000, 5001, 5002, 9000]


def test_a_wall_clock_that_is_set_back_by_an_hour_holds_nothing_up() -> None:
    """A change that is due in five seconds is due in five seconds, not in an hour."""
    wall = [10_000 * 1_000_000_000]
    clock = Clock(lambda: wall[0])
    before = clock.now()
    wall[0] -= 3600 * 1_000_000_000
    assert clock.now() - before < SECOND
    wall[0] += 5 * 1_000_000_000
    assert 5 * SECOND <= clock.now() - before < 6 * SECOND


def test_time_is_moved_forward_only() -> None:
    clock = Clock(lambda: 0)
    clock.advance(2.5)
    assert clock.now() == 2.5 * SECOND
    with pytest.raises(ValueError):
        clock.advance(-1)


def test_a_standing_clock_moves_when_it_is_told_to_and_is_right_again_afterwards() -> None:
    wall = [1_000_000_000]
    clock = Clock(lambda: wall[0])
    before = clock.now()
    with clock.standing():
        wall[0] += 3_600 * 1_000_000_000
        assert clock.now() == before + 1
        clock.advance(0.2)
        assert clock.now() == before + SECOND // 5
    assert clock.now() == before + 3600 * SECOND + SECOND // 5


class Held:
    """A held clock on a wall that tests move, in seconds."""

    def __init__(self) -> None:
        self.wall = 1_000.0
        self.clock = Clock(lambda: int(self.wall * 1e9), held=True)

    def later(self, seconds: float) -> Clock:
        self.wall += seconds
        return self.clock


def test_durations_of_a_held_clock_last_as_long_as_a_test_says_and_stamps_go_on() -> None:
    held = Held()
    stamp, due = held.clock.now(), held.clock.ticks() + 5 * SECOND
    assert held.later(3600).now() > stamp + 3599 * SECOND
    assert held.clock.ticks() < due
    assert held.clock.since(stamp) < SECOND
    held.clock.advance(5)
    assert held.clock.ticks() >= due
    assert 4.9 * SECOND < held.clock.since(stamp) < 6 * SECOND
    assert held.clock.since(held.clock.now()) == 0
    assert held.clock.now() > stamp + 3604 * SECOND


def test_real_time_counts_while_somebody_waits_and_no_longer() -> None:
    held = Held()
    due = held.clock.ticks() + 5 * SECOND
    assert not held.later(100).reached(due)  # who looks for the first time has not waited yet
    assert not held.later(4).reached(due)
    assert held.later(1).reached(due)
    assert held.later(100).ticks() == due  # and stands again
    assert not held.clock.reached(due + SECOND)
    held.clock.advance(0.5)
    assert not held.later(0.4).reached(due + SECOND)
    assert held.later(0.11).reached(due + SECOND)


def test_one_waits_for_what_has_begun_at_a_stamp() -> None:
    held = Held()
    stamp = held.clock.now()
    assert not held.later(50).has_lasted(stamp, 2)
    assert not held.later(1).has_lasted(stamp, 2)
    assert held.later(1.1).has_lasted(stamp, 2)


def test_a_clock_that_is_not_held_measures_durations_on_its_stamps() -> None:
    wall = [10**18]
    clock = Clock(lambda: wall[0])
    stamp = clock.now()
    wall[0] += 2_000_000_000
    assert clock.reached(stamp + SECOND)
    assert clock.has_lasted(stamp, 1.9)
    assert not clock.has_lasted(stamp, 2.1)
    assert abs(clock.since(stamp) - 2 * SECOND) < 10
    assert clock.stamp_and_lag()[1] == 0


def test_a_held_clock_shows_what_it_is_moved_to() -> None:
    held = Held()
    stamp = held.clock.now()
    held.later(10).stand_at(stamp + 3 * SECOND)
    at, lag = held.clock.stamp_and_lag()
    assert at - lag == stamp + 3 * SECOND
    assert 6.9 * SECOND < lag < 8 * SECOND
    held.clock.stand_at(stamp)  # never back
    assert held.clock.ticks() == stamp + 3 * SECOND
    held.clock.catch_up(at + 100 * SECOND)
    assert held.clock.stamp_and_lag()[1] <= 10


def test_a_saved_world_is_continued_after_its_last_moment() -> None:
    clock = Clock(lambda: 0)
    clock.start_after(77)
    assert clock.now() == 78


@pytest.mark.parametrize(
    ("digits", "text"),
    [
        (0, "2026-08-01T10:00:00Z"),
        (3, "2026-08-01T10:00:00.123Z"),
        (6, "2026-08-01T10:00:00.123456Z"),
        (9, "2026-08-01T10:00:00.123456000Z"),
    ],
)
def test_every_precision_is_written_and_read(digits: int, text: str) -> None:
    moment = parse_rfc3339("2026-08-01T10:00:00.123456Z")
    assert rfc3339(moment, digits) == text
    assert abs(parse_rfc3339(text) - moment) < 10 ** (6 - min(digits, 6))


@pytest.mark.parametrize("text", ["", "2026-08-01", "2026-08-01T10:00:00", "2026-08-01T10:00:00.Z", "yesterday"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_rfc3339(text)
