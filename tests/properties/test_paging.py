"""A list is complete, in order and without repetition at any page size, also while it grows."""

from collections.abc import Sequence

from hypothesis import given, strategies as st

from emulator.core.errors import InvalidArgument
from emulator.platform.queries.paging import Page, page

positions = st.sets(st.integers(0, 10**17), max_size=40).map(sorted)
sizes = st.integers(0, 45)
caps = st.integers(1, 45)


def walk(items: Sequence[int], size: int, cap: int) -> list[Page[int]]:
    pages = [page(items, size, "", int, cap)]
    while pages[-1].next_token:
        pages.append(page(items, size, pages[-1].next_token, int, cap))
        assert len(pages) <= len(items) + 1
    return pages


@given(positions, sizes, caps)
def test_pages_of_any_size_hold_everything_once_and_in_order(items: list[int], size: int, cap: int) -> None:
    pages = walk(items, size, cap)
    assert [row for one in pages for row in one.rows] == items
    assert all(one.total == len(items) for one in pages)
    assert all(len(one.rows) == min(size or 50, cap) for one in pages[:-1])
    assert len(pages[-1].rows) > 0 or not items


@given(positions, st.sets(st.integers(10**17 + 1, 10**18), max_size=10).map(sorted), sizes, caps)
def test_rows_that_arrive_between_two_pages_come_last(items: list[int], later: list[int], size: int, cap: int) -> None:
    first = page(items, size, "", int, cap)
    rest = page([*items, *later], 10**6, first.next_token, int, 10**6).rows if first.next_token else later
    assert [*first.rows, *rest] == [*items, *later]


@given(positions, sizes, st.data())
def test_rows_that_go_between_two_pages_are_only_missing(items: list[int], size: int, data: st.DataObject) -> None:
    first = page(items, size, "", int)
    kept = [item for item in items if item not in data.draw(st.sets(st.sampled_from(items or [0])))]
    if first.next_token:
        rest = page(kept, 10**6, first.next_token, int, 10**6).rows
        assert rest == [item for item in kept if item > first.rows[-1]]


@given(positions, st.integers(-5, 5), st.text(max_size=25) | st.text("t0123456789-", max_size=25))
def test_any_token_is_a_place_or_refused_by_name(items: list[int], size: int, token: str) -> None:
    try:
        found = page(items, size, token, int)
    except InvalidArgument:
        return
    assert set(found.rows) <= set(items)
