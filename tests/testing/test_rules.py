"""A faulty manager is named by its own rule, right ones are left alone; rules can be chosen; time is the emulator's."""

import re
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from ftsim.testing import ManagerFault, check_checkpoint_manager
from ftsim.testing.histories import KNOWN_TO_HURT, LATE_ROWS, OPTIONAL
from ftsim.testing.rules import BY_ID, RULES, chosen, named
from ftsim.testing.search import play
from ftsim.testing.stage import stage
from ftsim.testing.strategies import Crash, Event, Promote, Save, ServiceSwitch, Train
from ftsim.training.checkpoints.manager import TrainingCheckpoints
from tests.testing import zoo

QUICK: set[type[zoo.Listing]] = {zoo.CountsSteps, zoo.PointsFirst}
_slow = pytest.mark.slow


def _with_marks(managers: Any, quick: Collection[type]) -> list[Any]:
    return [pytest.param(one, marks=() if one in quick else _slow, id=one.__name__) for one in managers]


@pytest.mark.parametrize("manager", _with_marks(zoo.FAULTY, QUICK))
def test_a_faulty_manager_is_named_by_its_own_rule(manager: type[zoo.Listing]) -> None:
    with pytest.raises(ManagerFault) as caught:
        check_checkpoint_manager(manager, runs=0, lora_ranks=(0,) if manager in QUICK else (0, 4))
    found = caught.value
    assert found.broken[0] == zoo.FAULTY[manager], found
    assert str(found).startswith(f"[{found.rule.id}] {found.rule.sentence}; ")
    assert len(found.history) <= 7, found


@pytest.mark.parametrize("manager", _with_marks(zoo.RIGHT, {zoo.FailsClosed}))
def test_a_right_manager_is_left_alone(manager: type) -> None:
    check_checkpoint_manager(manager, runs=0, lora_ranks=(4,) if manager is zoo.FailsClosed else (0, 4))


@_slow
def test_the_full_search_leaves_our_manager_alone() -> None:
    check_checkpoint_manager(TrainingCheckpoints, runs=60)


def test_what_another_manager_has_slept_hides_nothing() -> None:
    """The stage is kept from search to search, and the clock of its platform with it."""
    skewed = (ServiceSwitch("clock.skew_s", -300.0), Train(1), Save(True, False), Crash())
    stage().emulator.clock.advance(3600)
    found = play(zoo.LocalClock, 0, skewed)
    assert found is not None
    assert named(found.rule.id, found.events) == "clock"


def test_a_fault_says_why_in_words() -> None:
    cut = (Train(1), Save(True, False), Train(1), Save(False, True), Crash(), Promote())
    found = play(zoo.NewestOfTheJob, 0, cut)
    assert found is not None
    assert found.fault == (
        "promotes wrong: out-1 was made from step-2, saved in 5, on a branch that is cut off: "
        "in 6 the run came back to step-1, saved in 3"
    )
    assert play(zoo.NewestOfTheJob, 0, cut, chosen(None, ignore=("branch",))) is None


def test_an_unknown_rule_is_refused_with_those_there_are() -> None:
    for options in ({"rules": ("newst",)}, {"ignore": ("newst",)}):
        with pytest.raises(ValueError, match="no rule 'newst'; the rules are save, fresh,"):
            check_checkpoint_manager(zoo.Listing, **options)  # type: ignore[arg-type]


def test_a_right_manager_may_give_up_where_patience_is_not_asked_for() -> None:
    late = (Train(1), Save(True, True), Train(1), LATE_ROWS, Save(True, True), Promote())
    assert play(zoo.FailsClosed, 0, late) is None
    found = play(zoo.FailsClosed, 0, late, chosen(("patience",), ()))
    assert found is not None
    assert found.rule.id == "patience"


def test_a_name_that_the_service_refuses_is_judged_on_request() -> None:
    strict = OPTIONAL[0]
    found = play(zoo.SameName, 0, strict)
    assert found is not None
    assert named(found.rule.id, found.events) == "again"
    assert "again" not in chosen(None, ())
    assert play(zoo.Listing, 0, strict) is None


class BoundSleep(zoo.Listing):
    """Waits with a sleep that was bound when it was defined, and gives up by the clock."""

    def __init__(self, client: Any, fw_client: Any, *, sleep: Any = time.sleep, **options: Any) -> None:
        super().__init__(client, fw_client, **options)
        self.sleep = sleep

    def wait_for(self, name: str) -> Any:
        until = time.monotonic() + 600
        while time.monotonic() < until:
            if found := [row for row in self.rows() if zoo.name_of(row) == name]:
                return found[0]
            self.sleep(30)
        raise TimeoutError(name)


def test_a_manager_waits_on_the_clock_of_the_emulator() -> None:
    slow = ServiceSwitch("rows.visible_after_s", 500.0)
    history: tuple[Event, ...] = (Train(1), Save(True, True), Train(1), slow, Save(False, True), Promote())
    sleep, before = time.sleep, time.monotonic()
    assert play(BoundSleep, 0, history, chosen(("patience", "promoted"), ())) is None
    assert play(zoo.Listing, 0, history, chosen(("patience", "promoted"), ())) is None
    never = ServiceSwitch("rows.visible_after_s", 5000.0)
    found = play(BoundSleep, 0, (*history[:3], never, *history[4:]), chosen(("patience",), ()))
    assert found is not None
    assert "TimeoutError" in found.fault
    assert time.monotonic() - before < 60
    assert time.sleep is sleep


class WaitsForEver(zoo.Listing):
    def wait_for(self, name: str) -> Any:
        while True:
            time.sleep(1000)


def test_a_manager_that_waits_for_ever_is_stopped() -> None:
    found = play(
        WaitsForEver,
        0,
        (
            Train(1),
            Save(True, True),
            ServiceSwitch("rows.visible_after_lists", 10**9),
            Train(1),
            Save(False, True),
            Promote(),
        ),
        chosen(("patience",), ()),
    )
    assert found is not None
    assert "one call has slept 87 times, 87000 s" in found.fault


@pytest.mark.parametrize(
    ("violation", "events", "rule"),
    [
        ("newest", (Train(1), Save(True, False), Crash()), "newest"),
        ("newest", (Train(1), Save(True, False, coarse=True), Crash()), "times"),
        ("newest", (Train(10), Save(True, False), Crash()), "numbers"),
        ("resume", (Train(1), Save(True, False, killed="after")), "unfinished"),
        ("resume", (Train(1), Save(True, False), Crash(True)), "interrupted"),
        ("save", (ServiceSwitch("save.on_duplicate", "strict"), Train(1), Save(True, False)), "again"),
        ("promoted", (LATE_ROWS, Train(1)), "visible"),
        ("newest", (LATE_ROWS, Train(1)), "late"),
        ("patience", (LATE_ROWS, Train(1)), "patience"),
        ("resume", (ServiceSwitch("clock.skew_s", 300.0),), "clock"),
    ],
)
def test_the_shortest_story_names_the_rule(violation: str, events: tuple[Event, ...], rule: str) -> None:
    assert named(violation, events) == rule


def test_every_rule_stands_in_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "testing-kit.md").read_text("utf-8")
    table = re.findall(r'<a id="rule-([a-z]+)"></a>`([a-z]+)` \| (.*?) \| (yes|no) \|', page)
    assert [(anchor, name, sentence, default == "yes") for anchor, name, sentence, default in table] == [
        (rule.id, rule.id, rule.sentence, rule.default) for rule in RULES
    ]
    assert all(BY_ID[rule.id] is rule for rule in RULES)


def test_the_histories_hold_every_kind_of_event() -> None:
    events = [event for history in KNOWN_TO_HURT for event in history]
    assert {event.killed for event in events if isinstance(event, Save)} == {"", "before", "between", "after"}
    assert {event.while_resuming for event in events if isinstance(event, Crash)} == {False, True}
    assert any(isinstance(event, Train) and event.dropped for event in events)
