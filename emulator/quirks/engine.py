"""The engine of the quirks: each is a named switch with a typed value, and a setting of it has a selector and a budget.

    emu.quirks.set("rows.visible_after_lists", 2, job="my-job")          # for ever
    emu.quirks.set("hotload.fail_next", True, times=1)                   # the next matching call only
    with emu.quirks.set("rows.time_precision", "mixed", for_s=60): ...   # sixty seconds of the emulator's clock
    emu.quirks.set("http.fail", 503, chance=0.05, endpoint="get_job")    # one call in twenty, drawn from the seed

A quirk is declared once, as a constant of a module beside this one: `rows.TIME_PRECISION` is what users know as
`rows.time_precision`. Code asks where the behaviour happens, and says what it happens to: `value(rows.TIME_PRECISION,
row.subject)` looks, `spend()` looks and uses up one of the budget. What comes back has the type of the default.
"""

import difflib
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, TypeVar, overload

from emulator.core import endpoints
from emulator.core.clock import SECOND, Clock
from emulator.core.errors import InvalidArgument
from emulator.core.names import Subject

MOST = 1e9
"""Seconds, calls, bytes: more than anybody waits for, and little enough to be added to a time."""
SELECTORS = Subject._fields
ANY: tuple[str, ...] = ()
ACCOUNT = ("account",)
JOB = ("job",)
ROW = ("job", "checkpoint")
VERB = ("job", "endpoint")
CALL = ("endpoint", "job", "deployment", "checkpoint")
PROMOTION = ("account", "job", "checkpoint")
DEPLOYMENT = ("deployment",)
SNAPSHOT = ("deployment", "checkpoint")
"""What a quirk can be selected by; a job is also a training session, a checkpoint also a snapshot's identity."""

T = TypeVar("T")
U = TypeVar("U")


def unknown(what: str, name: str, known: Iterable[str], where_listed: str = "") -> InvalidArgument:
    """The refusal of a name that nothing has: with the nearest one there is, and where all are listed."""
    choices = list(known)
    near = difflib.get_close_matches(name, choices, n=1)
    meant = f", did you mean {near[0]!r}?" if near else ";"
    return InvalidArgument(f"unknown {what} {name[:80]!r}{meant} {where_listed or 'use ' + ', '.join(choices)}")


def unknown_quirk(name: str, table: Iterable[str]) -> InvalidArgument:
    return unknown("quirk", name, table, "docs/quirks.md and `GET /_ftsim/quirks` list them all")


@dataclass(frozen=True, eq=False)
class Quirk(Generic[T]):
    """A declared switch. `default` fixes the type; `choices` closes the set of values; `failures` are catalogue ids."""

    name: str
    by: tuple[str, ...]
    """Says what it can be selected by: the code that asks knows all of these of its subject."""
    default: T
    doc: str
    failures: tuple[str, ...] = ()
    choices: tuple[T, ...] = ()
    bounds: tuple[float, float] = (0, MOST)
    """The least and the largest number; the default is allowed in any case."""

    def check_selectors(self, where: Mapping[str, str]) -> None:
        """Raises InvalidArgument for a selector by which it would never strike: another one, or an unknown endpoint."""
        for key in sorted(set(where) - set(self.by)):
            if not self.by:
                raise InvalidArgument(f"quirk {self.name} cannot be selected by {key[:80]!r}: it holds for everything")
            raise unknown(f"selector of quirk {self.name}:", key, self.by)
        if "endpoint" in where and not endpoints.is_known(where["endpoint"]):
            raise unknown(f"endpoint of quirk {self.name}:", where["endpoint"], endpoints.NAMES)

    def check_subject(self, subject: Subject) -> None:
        """Raises LookupError for a subject of which too little is said: a selector would miss it, unnoticed."""
        for key in self.by:
            if getattr(subject, key) is None:
                raise LookupError(f"quirk {self.name} is selected by {self.by}: the subject lacks its {key}")

    def check(self, value: Any) -> T:
        """The value in the declared type; raises InvalidArgument."""
        if self.choices and value not in self.choices:
            raise InvalidArgument(f"quirk {self.name}: {value!r} is none of {', '.join(map(repr, self.choices))}")
        kind = type(self.default)
        if kind is float and type(value) is int:
            value = float(value)
        if self.default is not None and type(value) is not kind:
            raise InvalidArgument(f"quirk {self.name} takes a {kind.__name__}, got {value!r}")
        if kind in (int, float) and value != self.default and not self.bounds[0] <= value <= self.bounds[1]:
            least, most = self.bounds
            raise InvalidArgument(f"quirk {self.name}: {value!r} is not between {least:g} and {most:g}")
        checked: T = value
        return checked


@dataclass
class Setting:
    """One switch turned on; leaving it as a context manager turns it off."""

    registry: "Quirks"
    quirk: Quirk[Any]
    value: Any
    where: Mapping[str, str] = field(default_factory=dict)
    left: int | None = None
    until: int | None = None
    chance: float = 1.0

    @property
    def name(self) -> str:
        return self.quirk.name

    def matches(self, subject: Subject, now: int) -> bool:
        alive = self.left != 0 and (self.until is None or now < self.until)
        return alive and all(getattr(subject, key) == wanted for key, wanted in self.where.items())

    def off(self) -> None:
        self.registry.remove(self)

    def __enter__(self) -> "Setting":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.off()


class Quirks:
    """The switches of one emulator; the setting made last wins. `draw` gives numbers in [0, 1)."""

    def __init__(self, clock: Clock, table: Iterable[Quirk[Any]], draw: Callable[[], float] = lambda: 0.0) -> None:
        self._clock = clock
        self._draw = draw
        self.table: Mapping[str, Quirk[Any]] = {quirk.name: quirk for quirk in table}
        self._settings: list[Setting] = []
        self._beneath: Mapping[Quirk[Any], Any] = {}
        self.quiet = True
        """Whether nothing is set at all: one attribute read, for what asks at every request."""
        self.watchers: list[Callable[[str, dict[str, Any]], None]] = []
        self._lock = threading.Lock()

    def set(
        self,
        quirk: str | Quirk[Any],
        value: Any,
        *,
        times: int | None = None,
        for_s: float | None = None,
        chance: float = 1.0,
        **where: str,
    ) -> Setting:
        """Turn a switch on; raises InvalidArgument for an unknown name, selector or endpoint and for a wrong type.

        With a `chance` below 1 a matching call is struck with that probability; one that is not costs no budget.
        """
        name = quirk if isinstance(quirk, str) else quirk.name
        if not 0.0 <= chance <= 1.0:
            raise InvalidArgument(f"quirk {name}: chance is {chance!r}, give a probability from 0 to 1")
        if times is not None and not (isinstance(times, int) and 1 <= times <= MOST):
            raise InvalidArgument(f"quirk {name}: times is {times!r}, give how many calls it strikes, 1 or more")
        if for_s is not None and not (isinstance(for_s, int | float) and 0 < for_s <= MOST):
            raise InvalidArgument(f"quirk {name}: for_s is {for_s!r}, give seconds between 0 and {MOST:g}")
        declared = self._declared(name)
        declared.check_selectors(where)
        if "endpoint" in where:
            meant = endpoints.selectors(where["endpoint"])
            where |= {key: value for key, value in meant.items() if key in declared.by}
        until = None if for_s is None else self._clock.ticks() + int(for_s * SECOND)
        setting = Setting(self, declared, declared.check(value), where, times, until, chance)
        with self._lock:
            self._settings.append(setting)
            self._hush()
        self._tell("quirk", name, value=setting.value, where=where, times=times, for_s=for_s, chance=chance)
        return setting

    @overload
    def value(self, quirk: Quirk[T], subject: Subject = ...) -> T: ...
    @overload
    def value(self, quirk: str, **subject: str) -> Any: ...
    def value(self, quirk: str | Quirk[Any], subject: Subject | None = None, **known: str) -> Any:
        """The value in force for this subject, or the default.

        The name will do as well: `value("jobs.pending_s", job="j1")`, of whatever type it then is.
        Raises InvalidArgument for an undeclared quirk, LookupError unless the subject says all that the quirk can be
        selected by: no selector may miss because the asker left it out.
        """
        return self._look(quirk, subject or Subject(**known), spend=False)

    @overload
    def spend(self, quirk: Quirk[T], subject: Subject = ...) -> T: ...
    @overload
    def spend(self, quirk: str, **subject: str) -> Any: ...
    def spend(self, quirk: str | Quirk[Any], subject: Subject | None = None, **known: str) -> Any:
        """Return the `value`, and use up one of the budget of the setting that answered."""
        return self._look(quirk, subject or Subject(**known), spend=True)

    def both(self, first: Quirk[T], second: Quirk[U], subject: Subject, *, spend: bool = False) -> tuple[T, U]:
        """Return the values of two quirks that decide one thing together."""
        return self._look(first, subject, spend=spend), self._look(second, subject, spend=spend)

    def any_of(self, quirks: Collection[Quirk[Any]]) -> bool:
        """Say whether a setting exists for one of these quirks, or the platform's date has another value for it."""
        return any(setting.quirk in quirks for setting in self._settings) or not self._beneath.keys().isdisjoint(quirks)

    def stand_on(self, beneath: Mapping[Quirk[Any], Any]) -> None:
        """Answer these values where nothing is set, instead of the defaults; raises InvalidArgument for a bad one."""
        with self._lock:
            self._beneath = {quirk: quirk.check(value) for quirk, value in beneath.items()}
            self._hush()

    def beneath(self, quirk: Quirk[T]) -> T | None:
        """The value that the platform's date gives a switch where nothing is set; None where that is its default."""
        return self._beneath.get(quirk)

    def now(self) -> int:
        """The moment by which budgets of seconds are counted."""
        return self._clock.ticks()

    def _hush(self) -> None:
        self.quiet = not self._settings and not self._beneath

    def active(self) -> list[Setting]:
        if not self._settings:
            return []
        now = self._clock.ticks()
        with self._lock:
            return [s for s in self._settings if s.left != 0 and (s.until is None or now < s.until)]

    def remove(self, setting: Setting) -> None:
        with self._lock:
            self._settings = [s for s in self._settings if s is not setting]
            self._hush()
        self._tell("quirk off", setting.name, value=setting.value, where=dict(setting.where))

    def clear(self) -> None:
        with self._lock:
            settings = list(self._settings)
            self._settings.clear()
            self._hush()
        for setting in settings:
            self._tell("quirk off", setting.name, value=setting.value, where=dict(setting.where))

    def _tell(self, what: str, name: str, **detail: Any) -> None:
        for watcher in self.watchers:
            watcher(what, {"name": name, **detail})

    def _declared(self, name: str) -> Quirk[Any]:
        if name not in self.table:
            raise unknown_quirk(name, self.table)
        return self.table[name]

    def _look(self, quirk: str | Quirk[Any], subject: Subject, *, spend: bool) -> Any:
        declared = self._declared(quirk) if isinstance(quirk, str) else quirk
        declared.check_subject(subject)
        if not self._settings:
            return self._beneath.get(declared, declared.default) if self._beneath else declared.default
        now = self._clock.ticks()
        with self._lock:
            for setting in reversed(self._settings):
                if setting.quirk is declared and setting.matches(subject, now) and self._strikes(setting):
                    if spend and setting.left is not None:
                        setting.left -= 1
                    if setting.until is not None:
                        self._clock.reached(setting.until)  # whoever it strikes waits for its end
                    self._tell("touched", declared.name, value=setting.value)
                    return setting.value
        return self._beneath.get(declared, declared.default)

    def _strikes(self, setting: Setting) -> bool:
        return setting.chance >= 1.0 or self._draw() < setting.chance
