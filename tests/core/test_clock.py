"""Time by example: strictly rising, moved by tests, written in every precision (WIRE 5.4)."""

import pytest

from emulator.core.clock import SECOND, Clock, parse_rfc3339, rfc3339


def test_two_moments_are_never_the_same_even_when_the_wall_clock_stands_or_jumps_back() -> None:
    walls = iter([5_000_000, 5_000_000, 3_000_000, 9_000_000])
    clock = Clock(lambda: next(walls))
    assert [clock.now() for _ in range(4)] == [5000, 5001, 5002, 9000]


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
