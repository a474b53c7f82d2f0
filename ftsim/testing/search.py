"""Plays histories, shortens those that go wrong, and groups what they show by the rule that is broken."""

from collections.abc import Collection, Iterable, Sequence

from ftsim.testing.faults import ManagerFault
from ftsim.testing.progress import Progress
from ftsim.testing.rules import ORDER, named
from ftsim.testing.runs import Factory, Run
from ftsim.testing.strategies import Crash, Event, Save, Train


def play(
    factory: Factory, rank: int, events: Iterable[Event], rules: Collection[str] | None = None
) -> ManagerFault | None:
    """The fault that a history brings to light, None when the manager comes through."""
    __tracebackhide__ = True
    run: Run | None = None
    try:
        run = Run(factory, rank, rules=rules)
        for event in events:
            run.play(event)
    except ManagerFault as fault:
        return fault
    finally:
        if run is not None:
            run.close()
    return None


class Findings:
    """The faults of one manager, the one with the shortest story for each rule."""

    def __init__(self, factory: Factory, rules: Collection[str], progress: Progress) -> None:
        self._factory = factory
        self._rules = rules
        self._progress = progress
        self._by_rule: dict[str, ManagerFault] = {}
        self._plain: set[tuple[str, int]] = set()

    def __len__(self) -> int:
        return len(self._by_rule)

    def try_out(self, rank: int, events: Sequence[Event]) -> None:
        """Play a history and keep what it shows."""
        found = play(self._factory, rank, events, self._rules)
        if found is not None:
            self.add(found)
        self._progress.played(len(self))

    def add(self, found: ManagerFault) -> None:
        """Shorten a fault and keep it under its rule; one that an earlier story shows plainly needs none of its own."""
        seems = found.rule.id
        if seems in self._by_rule:
            return
        short = shorten(self._factory, found.rank, found, self._rules)
        rule = named(seems, short.events)
        kept = self._by_rule.get(rule)
        if rule in self._rules and (kept is None or len(short.events) < len(kept.events)):
            self._by_rule[rule] = short.renamed(rule)

    def fault(self) -> ManagerFault | None:
        """The fault of the first rule that is broken, with those of the others."""
        if not self._by_rule:
            return None
        first, *others = sorted(self._by_rule.values(), key=lambda one: ORDER[one.rule.id])
        found = first.renamed(first.rule.id, others)
        found.__cause__ = first.__cause__
        return found


def shorten(factory: Factory, rank: int, fault: ManagerFault, rules: Collection[str] | None = None) -> ManagerFault:
    """Shorten a history to what seems to be the same fault, without the events that it does not need."""
    at = len(fault.events) - 1
    while at >= 0:
        events = fault.events[:at] + fault.events[at + 1 :]
        found = play(factory, rank, events, rules)
        if found is not None and found.rule == fault.rule:
            fault = found
        at = min(at, len(fault.events)) - 1
    return _simplify(factory, rank, fault, rules)


def _simplify(factory: Factory, rank: int, fault: ManagerFault, rules: Collection[str] | None) -> ManagerFault:
    """One batch where several were trained, a plain event where a special one makes no difference."""
    for at, event in enumerate(fault.events):
        for simpler in _simpler(event):
            found = play(factory, rank, (*fault.events[:at], simpler, *fault.events[at + 1 :]), rules)
            if found is not None and found.rule == fault.rule and len(found.events) == len(fault.events):
                fault = found
                break
    return fault


def _simpler(event: Event) -> list[Event]:
    match event:
        case Train(batches, dropped) if batches > 1 or dropped:
            return [Train(1), Train(batches)] if batches > 1 and dropped else [Train(1)]
        case Save(resumable, promotable, coarse, killed) if killed:
            return [Save(resumable, promotable, coarse)]
        case Save(resumable, promotable, True):
            return [Save(resumable, promotable)]
        case Crash(True):
            return [Crash()]
    return []
