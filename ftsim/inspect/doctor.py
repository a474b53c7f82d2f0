"""Judges a whole listing of checkpoints: what each row can do, where a client would go wrong, what would be taken.

The catalogue ids in findings are those of docs/failures.md.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from emulator.core.kinds import CAPABILITIES
from emulator.core.names import is_loadable
from ftsim.inspect.listing import ListedRow, newest_by_text, oldest_first

_SECOND = 1_000_000_000
_TOLERATED_S = 60
"""A row may be stamped this much after the reader's clock before the two clocks are said to differ."""


@dataclass(frozen=True)
class Verdict:
    """One row, and why it can or cannot be resumed and promoted."""

    row: ListedRow
    resumable: str
    promotable: str
    branch: int
    """Number of the branch of its run, from 1: a resume from an older step begins the next one."""
    cut_off: bool
    """Say whether a later branch began before this row's step, so that the run's final state does not contain it."""


@dataclass(frozen=True)
class Trouble:
    """A finding: it would make a client take the wrong row, or stop. `entry` is an id of the catalogue."""

    entry: str
    sentence: str


@dataclass(frozen=True)
class Diagnosis:
    """A judged listing. The `takes` are row ids, None where there is nothing to take."""

    verdicts: tuple[Verdict, ...]
    troubles: tuple[Trouble, ...]
    resume_takes: str | None
    promote_takes: str | None
    text_takes: str | None
    """The row that a client promotes which sorts createTime as text (FAILURES A2)."""


def judge(listed: Sequence[ListedRow], *, now: float | None = None, cut: bool = False) -> Diagnosis:
    """Judge the rows of one job or session.

    `now` is the reader's time in seconds since the epoch, None where the listing was saved earlier; `cut` says that
    the listing names a next page that is not in it.
    """
    rows = oldest_first(listed)
    verdicts = tuple(_verdicts(rows))
    resume = [row for row in rows if row.resumable and is_loadable(row.local)]
    promote = [row for row in rows if row.promotable]
    by_text = newest_by_text([row for row in promote if row.created is not None])
    return Diagnosis(
        verdicts=verdicts,
        troubles=tuple(_troubles(rows, verdicts, now, cut)),
        resume_takes=resume[-1].id if resume else None,
        promote_takes=promote[-1].id if promote else None,
        text_takes=by_text.id if by_text else None,
    )


def _verdicts(rows: Sequence[ListedRow]) -> Iterator[Verdict]:
    branches = _branches(rows)
    last = {row.run: branches[row.name or row.id] for row in rows}
    starts: dict[tuple[str, int], int] = {}
    for row in rows:
        key = (row.run, branches[row.name or row.id])
        if row.step is not None:
            starts.setdefault(key, row.step)
    for row in rows:
        branch = branches[row.name or row.id]
        numbers = range(branch + 1, last[row.run] + 1)
        later = [starts[row.run, number] for number in numbers if (row.run, number) in starts]
        cut_off = row.step is not None and any(row.step >= start for start in later)
        yield Verdict(row, _why_resumable(row), _why_promotable(row), branch, cut_off)


def _branches(rows: Sequence[ListedRow]) -> dict[str, int]:
    """The branch of each row, by its name: a step that is lower than one before it begins the next branch."""
    numbers: dict[str, int] = {}
    current: Counter[str] = Counter()
    highest: dict[str, int] = {}
    sessions: dict[tuple[str, str], int] = {}
    for row in rows:
        current.setdefault(row.run, 1)
        known = sessions.get((row.run, row.suffix)) if row.suffix else None
        if row.step is not None and row.step < highest.get(row.run, 0) and known is None:
            current[row.run] += 1
            highest[row.run] = 0
        if row.step is not None:
            highest[row.run] = max(highest.get(row.run, 0), row.step)
        if row.suffix:
            sessions.setdefault((row.run, row.suffix), current[row.run])
        numbers[row.name or row.id] = known or current[row.run]
    return numbers


def _why_resumable(row: ListedRow) -> str:
    if row.kind is None:
        return f"unknown: {row.short_type} is no type of the catalogue"
    if not row.resumable:
        return f"no: {row.short_type} holds no optimizer"
    if not is_loadable(row.local):
        return "no: the SDK refuses to load this name (B3)"
    return "yes: weights and optimizer"


def _why_promotable(row: ListedRow) -> str:
    if row.promotable:
        return "yes: the row says so"
    if row.kind is None:
        return f"no: the row does not say so, and {row.short_type} is no type of the catalogue"
    if row.listed_promotable is None:
        return "no: the row does not say so; absent means no (A14)"
    if row.resumable:
        return f"no: {row.short_type} is training state (D2)"
    if not CAPABILITIES[row.kind].promotable:
        return f"no: {row.short_type} is a delta over the snapshot before (D1)"
    return f"no: the row says so, although {row.short_type} normally is; list again (D10)"


def _troubles(
    rows: Sequence[ListedRow], verdicts: Sequence[Verdict], now: float | None, cut: bool
) -> Iterator[Trouble]:
    if cut:
        yield Trouble("A7", "the listing names a next page that is not here: the newest rows may be missing")
    yield from _times(rows, now)
    yield from _names(rows)
    yield from _kinds(rows)
    yield from _lineage(rows, verdicts)


def _times(rows: Sequence[ListedRow], now: float | None) -> Iterator[Trouble]:
    for row in rows:
        if not row.created_text:
            yield Trouble("A14", f"{row.id} has no createTime: its place among the others is not known")
        elif row.created is None:
            yield Trouble("A5", f"{row.id}: createTime {row.created_text!r} is no RFC 3339 time")
    for what, some in (("resume", [r for r in rows if r.resumable]), ("promote", [r for r in rows if r.promotable])):
        stamped = [row for row in some if row.created is not None]
        wrong = newest_by_text(stamped)
        if wrong is not None and wrong.id != stamped[-1].id:
            yield Trouble(
                "A1",
                f"createTime comes in mixed precisions: to {what}, a client that sorts text takes {wrong.id}, "
                f"the newest is {stamped[-1].id}",
            )
    ahead = [row for row in rows if now is not None and (row.created or 0) / _SECOND > now + _TOLERATED_S]
    if ahead:
        by = (ahead[-1].created or 0) / _SECOND - (now or 0)
        yield Trouble("A4", f"{ahead[-1].id} was created {by:.0f} s after the time here: the two clocks differ")


def _names(rows: Sequence[ListedRow]) -> Iterator[Trouble]:
    for identifier, count in Counter(row.name or row.id for row in rows).items():
        if count > 1:
            yield Trouble("A7", f"{identifier} is listed {count} times: a page was read twice, or repeats itself")
    for row in rows:
        if row.resumable and not is_loadable(row.local):
            yield Trouble("B3", f"{row.id}: the SDK refuses to load this name; use a-z, 0-9, hyphen")
    seen: dict[tuple[str, str], ListedRow] = {}
    for row in (row for row in rows if row.promotable and row.suffix):
        before = seen.setdefault((row.run, row.logical), row)
        if before.suffix != row.suffix:
            yield Trouble(
                "A12",
                f"{before.id} and {row.id} were saved under one name by two sessions: choose by the full id",
            )
    runs = {row.run for row in rows if row.run}
    if len(runs) > 1:
        yield Trouble("A13", f"rows of {len(runs)} runs are in this list: keep to those of your own run id")


def _kinds(rows: Sequence[ListedRow]) -> Iterator[Trouble]:
    for row in rows:
        if row.kind is None:
            yield Trouble("A14", f"{row.id} has the type {row.type or 'nothing'!r}, unknown here: take it as opaque")
        elif row.listed_promotable is None and CAPABILITIES[row.kind].promotable:
            yield Trouble("A14", f"{row.id} does not say `promotable`; its kind normally is: list again")
    if rows and not any(row.promotable for row in rows):
        yield Trouble("D16", "no row can be promoted: save one with checkpoint_type='base'")


def _lineage(rows: Sequence[ListedRow], verdicts: Sequence[Verdict]) -> Iterator[Trouble]:
    for verdict in verdicts:
        if verdict.cut_off and (verdict.row.resumable or verdict.row.promotable):
            yield Trouble(
                "D15",
                f"{verdict.row.id} is of branch {verdict.branch}, from which the run went back: highest is not newest",
            )
    zero = next((row for row in rows if row.id == "step-0" and row.resumable), None)
    earlier = [row for row in rows if zero is not None and row.resumable and (row.created or 0) < (zero.created or 0)]
    if any(row.step for row in earlier):
        yield Trouble("A8", "a later state is called step-0: the trainer may have renamed the save to its own counter")
