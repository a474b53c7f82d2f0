"""Everything asynchronous is a transition: immediate (the default), after so many reads, or after so many seconds.

Transitions are settled when somebody looks, so nothing runs in the background and a test that advances the clock sees
the change at its next read.
"""

from dataclasses import dataclass

from emulator.core.clock import SECOND


@dataclass(frozen=True)
class Progression:
    """How a change comes about: `after_reads` looks and `after_s` seconds must both have passed."""

    after_reads: int = 0
    after_s: float = 0.0

    @property
    def immediate(self) -> bool:
        return self.after_reads <= 0 and self.after_s <= 0


IMMEDIATE = Progression()


@dataclass
class Pending:
    """A change on its way: the field takes `value` once `reads` looks were answered and the clock shows `due`."""

    value: str
    reads: int = 0
    due: int = 0

    @classmethod
    def start(cls, value: str, progression: Progression, now: int) -> "Pending":
        return cls(value, progression.after_reads, now + int(progression.after_s * SECOND))

    def look(self, now: int) -> bool:
        """Count one look; true when the change has happened by now."""
        if self.reads > 0:
            self.reads -= 1
            return False
        return now >= self.due
