"""The rules that a checkpoint manager is held to, as data; a fault is named by the rule that its shortest story breaks.

What went wrong (`newest`: the run went back) is seen at once. Why is read off the shortest story that still shows it:
if the run goes back only where a time is listed in whole seconds, times were compared as text, which is rule `times`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ftsim.testing.strategies import Crash, Event, Save, ServiceSwitch, Train

PAGE = "docs/testing-kit.md"
LIST_FAILS, LATE = "http.fail", "rows.visible_after"


@dataclass(frozen=True)
class Rule:
    """One thing that a manager must do. `default` is False where a manager that is right may do otherwise."""

    id: str
    sentence: str
    default: bool = True

    @property
    def page(self) -> str:
        """The address of the page that explains the rule."""
        return f"{PAGE}#rule-{self.id}"


RULES = (
    Rule("save", "save() succeeds at every step that was trained"),
    Rule("fresh", "with nothing saved, resume() returns None"),
    Rule("resume", "resume() finds an acknowledged save and loads it"),
    Rule("newest", "resume() comes back at the newest acknowledged resumable save"),
    Rule("cursor", "resume() returns the data_consumed that its save was given"),
    Rule("weights", "after resume() the trainer holds the weights of that save"),
    Rule("optimizer", "after resume() the trainer holds the optimizer's state of that save"),
    Rule("promote", "promote_latest() makes a model when this run has a promotable save"),
    Rule("promoted", "the promoted model has the weights of the newest promotable save"),
    Rule("times", "creation times are compared as times: as text, ...:13Z sorts after ...:13.2Z"),
    Rule("numbers", "steps are compared as numbers: as text, step-10 sorts before step-9"),
    Rule("pages", "every page of the list is read"),
    Rule("rows", "rows of an unknown type, and rows that do not say promotable, are passed over"),
    Rule("clock", "times of this machine are not compared with times of the service"),
    Rule("unfinished", "a save that a kill cuts off leaves what was acknowledged before, or is there as a whole"),
    Rule("interrupted", "a resume() that a kill cuts off can be done again"),
    Rule("unreachable", "a list that could not be read is not taken for an empty one"),
    Rule("visible", "promote_latest() does not take an older save because the newest is not listed yet"),
    Rule("branch", "what was saved after the checkpoint that the run came back to is never promoted"),
    Rule("again", "a step that was saved is saved again where the service refuses its name", default=False),
    Rule("late", "resume() waits for a save that it knows of and that is not listed yet", default=False),
    Rule("patience", "a row that is late and a call that fails for a moment are waited out", default=False),
)
BY_ID = {rule.id: rule for rule in RULES}
ORDER = {rule.id: at for at, rule in enumerate(RULES)}
RESUMING = frozenset({"fresh", "resume", "newest", "cursor", "weights", "optimizer"})
_SWITCHES = {
    "rows.page_size_cap": "pages",
    "rows.drop_false": "rows",
    "rows.extra_type": "rows",
    "rows.omit": "rows",
    "save.on_duplicate": "again",
    "rows.time_precision": "times",
    "clock.skew_s": "clock",
}


def chosen(rules: Collection[str] | None, ignore: Collection[str]) -> frozenset[str]:
    """The ids of the rules to hold a manager to; raises ValueError for an id that is none."""
    unknown = sorted({*(rules or ()), *ignore} - BY_ID.keys())
    if unknown:
        raise ValueError(f"there is no rule {unknown[0]!r}; the rules are {', '.join(BY_ID)}")
    wanted = {rule.id for rule in RULES if rule.default} if rules is None else set(rules)
    return frozenset(wanted - set(ignore))


def named(violation: str, events: Sequence[Event]) -> str:
    """The id of the rule that a shortest story breaks; `violation` is the rule that it seems to break."""
    quirks = [event.quirk for event in events if isinstance(event, ServiceSwitch)]
    if violation in ("patience", "branch"):
        return violation
    if any(quirk.startswith(LATE) for quirk in quirks):
        return "visible" if violation == "promoted" else "late"
    if LIST_FAILS in quirks:
        return "unreachable"
    for quirk in quirks:
        if quirk in _SWITCHES:
            return _SWITCHES[quirk]
    return _by_what_happened(violation, events)


def _by_what_happened(violation: str, events: Sequence[Event]) -> str:
    saves = [event for event in events if isinstance(event, Save)]
    crashes = [event for event in events if isinstance(event, Crash)]
    if any(save.killed for save in saves):
        return "unfinished"
    if any(crash.while_resuming for crash in crashes):
        return "interrupted"
    if violation in ("newest", "promoted", "weights", "cursor"):
        if any(save.coarse for save in saves):
            return "times"
        if sum(event.batches for event in events if isinstance(event, Train)) >= 10:
            return "numbers"
    return violation
