"""The fault of a checkpoint manager, told so that it can be understood without running anything."""

from collections.abc import Sequence

from ftsim.testing.rules import BY_ID, Rule
from ftsim.testing.strategies import Event


class ManagerFault(AssertionError):
    """A checkpoint manager lost or harmed a run; `history` tells how it came to it, one line for each event.

    `rule` is the rule that it broke. `others` are the faults of other rules, each with its own shortest history;
    `broken` lists the ids of all, this one's first.
    """

    def __init__(
        self,
        fault: str,
        history: Sequence[str],
        events: Sequence[Event] = (),
        *,
        rule: str,
        rank: int = 0,
        others: Sequence["ManagerFault"] = (),
    ) -> None:
        self.fault = fault
        self.history = tuple(history)
        self.events = tuple(events)
        self.rule: Rule = BY_ID[rule]
        self.rank = rank
        self.others = tuple(others)
        super().__init__(self._told())

    @property
    def kind(self) -> str:
        """`loses the run`, `resumes wrong`, `promotes wrong`, ...: what comes before the details."""
        return self.fault.partition(":")[0]

    @property
    def broken(self) -> list[str]:
        """The ids of the rules that are broken, this fault's first."""
        return [self.rule.id, *(other.rule.id for other in self.others)]

    def renamed(self, rule: str, others: Sequence["ManagerFault"] = ()) -> "ManagerFault":
        """The same fault under the rule that its story shows, with the others that were found."""
        return ManagerFault(self.fault, self.history, self.events, rule=rule, rank=self.rank, others=others)

    def _told(self) -> str:
        first = f"[{self.rule.id}] {self.rule.sentence}; {self.fault}"
        told = f"{first}\n\nThe history of the run:\n{self._story()}\n\nAbout this rule: {self.rule.page}"
        for other in self.others:
            told += f"\n\nAlso: [{other.rule.id}] {other.rule.sentence}; {other.fault}\n{other._story()}"
        return told

    def _story(self) -> str:
        return "\n".join(f"  {number}. {event}" for number, event in enumerate(self.history, 1))


ManagerFault.__module__ = "ftsim.testing"  # pytest's summary line has little room
