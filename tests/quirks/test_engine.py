"""The engine of the quirks: what a declaration promises to the code that asks."""

from typing import assert_type

import pytest

from emulator.core.clock import Clock
from emulator.core.errors import InvalidArgument
from emulator.core.names import Subject
from emulator.quirks import promotion, rows, trainers
from emulator.quirks.engine import JOB, Quirk, Quirks
from emulator.quirks.table import QUIRKS

ROW = Subject(account="a", job="j1", checkpoint="step-1")


@pytest.fixture
def quirks() -> Quirks:
    return Quirks(Clock(), QUIRKS)


def test_what_is_asked_for_has_the_type_of_its_default(quirks: Quirks) -> None:
    assert assert_type(quirks.value(rows.TIME_PRECISION, ROW), str) == "micros"
    assert assert_type(quirks.value(rows.VISIBLE_AFTER_LISTS, ROW), int) == 0
    assert assert_type(quirks.spend(rows.VISIBLE_AFTER_S, ROW), float) == 0.0
    assert assert_type(quirks.value(rows.DROP_FALSE, ROW), bool) is False
    assert assert_type(quirks.value(rows.OMIT, ROW), list[str]) == []


def test_a_name_and_a_constant_are_the_same_quirk(quirks: Quirks) -> None:
    quirks.set("rows.time_precision", "mixed", job="j1")
    assert quirks.value(rows.TIME_PRECISION, ROW) == "mixed"
    assert quirks.value("rows.time_precision", job="j1", checkpoint="step-1") == "mixed"
    assert quirks.value(rows.TIME_PRECISION, ROW._replace(job="j2")) == "micros"
    quirks.set(rows.TIME_PRECISION, "nanos")
    assert [setting.name for setting in quirks.active()] == ["rows.time_precision"] * 2
    assert quirks.value(rows.TIME_PRECISION, ROW) == "nanos"


def test_a_subject_may_know_more_than_it_is_asked(quirks: Quirks) -> None:
    quirks.set("sessions.max_gpu", 2, job="j1")
    assert quirks.value(trainers.SESSIONS_MAX_GPU, ROW) == 2


@pytest.mark.parametrize("known", [Subject(), Subject(account="a", job="j1"), Subject(job="j1", checkpoint="c")])
def test_a_subject_that_knows_too_little_is_refused_before_a_selector_can_miss_it(
    quirks: Quirks, known: Subject
) -> None:
    with pytest.raises(LookupError, match=r"promote.async is selected by .*: the subject lacks its"):
        quirks.value(promotion.ASYNC, known)


def test_an_empty_id_is_known(quirks: Quirks) -> None:
    quirks.set("futures.expire_next", True, job="j1")
    assert quirks.value(trainers.FUTURES_EXPIRE_NEXT, Subject(job="", endpoint="forward")) is False


def test_the_budget_is_spent_by_whoever_uses_it_up(quirks: Quirks) -> None:
    quirks.set(rows.VISIBLE_AFTER_LISTS, 3, times=1)
    assert [quirks.value(rows.VISIBLE_AFTER_LISTS, ROW) for _ in range(2)] == [3, 3]
    assert [quirks.spend(rows.VISIBLE_AFTER_LISTS, ROW) for _ in range(2)] == [3, 0]


def test_a_declaration_is_all_that_a_new_quirk_needs() -> None:
    speed = Quirk("jobs.speed", JOB, 1.0, "How fast a job is.", bounds=(0.5, 2))
    quirks = Quirks(Clock(), [*QUIRKS, speed])
    quirks.set("jobs.speed", 2, job="j1")
    assert assert_type(quirks.value(speed, Subject(job="j1")), float) == 2.0
    with pytest.raises(InvalidArgument, match=r"3.0 is not between 0.5 and 2"):
        quirks.set("jobs.speed", 3)


def test_a_quirk_that_is_not_declared_cannot_be_set(quirks: Quirks) -> None:
    with pytest.raises(InvalidArgument, match=r"unknown quirk 'jobs\.speed'"):
        quirks.set(Quirk("jobs.speed", JOB, 1.0, "How fast a job is."), 2.0)
