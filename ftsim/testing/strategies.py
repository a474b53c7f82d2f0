"""Hypothesis strategies for whoever writes a checkpoint manager: names, rows of a listing, histories of a run.

from ftsim.testing import checkpoint_names, rows, save_histories
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from hypothesis import strategies as st

from emulator.core.clock import SECOND, rfc3339
from emulator.core.kinds import CAPABILITIES, CheckpointKind

PRECISIONS = (0, 3, 6, 9)
Killed = Literal["", "before", "between", "after"]
_EPOCH_2026 = 1_767_225_600 * SECOND
_LABEL_ENDS = "abcdefghijklmnopqrstuvwxyz0123456789"
_LABEL = _LABEL_ENDS + "-"
_AWKWARD = ("step-0", "step-10", "step-9", "eval-20260401", "run-deadbeef", "step-12345678", "best", "a", "0")
"""Names that clients stumble over: they look like a session suffix, or sort differently as text (FAILURES A11, D15)."""


def dns_labels(longest: int = 63) -> st.SearchStrategy[str]:
    """Lowercase letters, digits and inner hyphens, 1 to `longest` characters (at most 63)."""
    inner = st.text(_LABEL, max_size=max(0, longest - 2))
    ends = st.sampled_from(_LABEL_ENDS)
    long = st.builds(lambda first, middle, last: first + middle + last, ends, inner, ends)
    return ends if longest < 2 else st.one_of(ends, long)


def checkpoint_names(*, longest: int = 54) -> st.SearchStrategy[str]:
    """Names that save and load everywhere: DNS labels with room for the SDK's suffix (FAILURES B3, B4)."""
    awkward = st.sampled_from([name for name in _AWKWARD if len(name) <= longest])
    numbered = st.integers(0, 9999).map(lambda step: f"step-{step}")
    return st.one_of(awkward, numbered.filter(lambda name: len(name) <= longest), dns_labels(longest))


def moments() -> st.SearchStrategy[int]:
    """Microseconds since 1970 within some years of 2026; often on a whole second."""
    seconds = st.integers(-2 * 365 * 86_400, 4 * 365 * 86_400).map(lambda second: _EPOCH_2026 + second * SECOND)
    return st.builds(lambda second, micro: second + micro, seconds, st.sampled_from([0, 1, 500_000, 999_999])) | (
        st.builds(lambda second, micro: second + micro, seconds, st.integers(0, SECOND - 1))
    )


@st.composite
def rows(
    draw: st.DrawFn,
    *,
    job: str = "accounts/acct/rlorTrainerJobs/job",
    names: st.SearchStrategy[str] | None = None,
    kinds: Sequence[CheckpointKind] = tuple(CheckpointKind),
    max_size: int = 12,
) -> list[dict[str, Any]]:
    """A checkpoint listing as the control plane gives it (WIRE 1.9): oldest first, unique ids, unique times.

    `createTime` mixes 0, 3, 6 and 9 fractional digits (FAILURES A1, A5), so it does not sort as text; `promotable` is
    left out of some rows that are not (A14). Times differ by a second at least, so every precision keeps the order.
    """
    ids = draw(st.lists(names or checkpoint_names(), unique=True, max_size=max_size))
    moment = draw(moments())
    listing = []
    for identifier in ids:
        moment += draw(st.sampled_from([SECOND, SECOND + 1, 3 * SECOND // 2, 60 * SECOND]))
        listing.append(_row(draw, f"{job}/checkpoints/{identifier}", draw(st.sampled_from(kinds)), moment))
    return listing


def _row(draw: st.DrawFn, name: str, kind: CheckpointKind, moment: int) -> dict[str, Any]:
    stamp = rfc3339(moment, draw(st.sampled_from(PRECISIONS)))
    promotable = CAPABILITIES[kind].promotable
    row: dict[str, Any] = {"name": name, "createTime": stamp, "updateTime": stamp, "checkpointType": kind.value}
    if promotable or draw(st.booleans()):
        row["promotable"] = promotable
    return row


@dataclass(frozen=True)
class Train:
    """`batches` optimizer steps of two or three rows each; `dropped` more rows are read and not trained."""

    batches: int = 1
    dropped: int = 0


@dataclass(frozen=True)
class Save:
    """`manager.save("step-N", resumable=..., promotable=..., data_consumed=...)` at the present step.

    `coarse`: the rows are made on a whole second, and listed with a time that says no more than that (FAILURES A1).
    `killed`: the process dies in it and a new one resumes: `before` the service carries anything out, `between` the
    two halves of a save along both axes, or `after` all was carried out and before the reply was read.
    """

    resumable: bool
    promotable: bool
    coarse: bool = False
    killed: Killed = ""


@dataclass(frozen=True)
class Crash:
    """The process dies and the trainer with it: all that is left is what was saved. A new manager resumes.

    `while_resuming`: it is killed once the service has carried out its load, and the next one resumes.
    """

    while_resuming: bool = False


@dataclass(frozen=True)
class Promote:
    """`manager.promote_latest(...)` to a model id never used before."""


@dataclass(frozen=True)
class ServiceSwitch:
    """The service has a quirk from here on: one of docs/quirks.md, its value, what selects it, how often it strikes."""

    quirk: str
    value: Any
    where: Mapping[str, str] = field(default_factory=dict)
    times: int | None = None


Event = Train | Save | Crash | Promote | ServiceSwitch
Value = TypeVar("Value")
KILLED: tuple[Killed, ...] = ("before", "between", "after")
_SAVES = ((True, False), (True, True), (False, True))


def _save(axes: tuple[bool, bool], coarse: bool, killed: Killed = "") -> Save:
    return Save(axes[0], axes[1], coarse, killed)


def save_histories(
    *,
    max_size: int = 12,
    switches: Sequence[ServiceSwitch] = (),
    kills: bool = False,
    weather: Sequence[ServiceSwitch] | None = None,
) -> st.SearchStrategy[list[Event]]:
    """Lists of what happens to one run, in order: training, saves, crashes, promotions, and the given `switches`.

    An event may come where it makes no sense, such as a save before the first step: whoever plays a history skips it.
    With `kills` a process also dies in the middle of a save or of a resume. `weather` is the deprecated name of
    `switches`.
    """
    switches = renamed("weather=", "switches=", weather, switches)
    events: list[st.SearchStrategy[Any]] = [
        st.builds(Train, st.integers(1, 4), st.sampled_from([0, 0, 1])),
        st.builds(_save, st.sampled_from(_SAVES), st.booleans()),
        st.just(Crash()),
        st.just(Promote()),
    ]
    if switches:
        events.append(st.sampled_from(list(switches)))
    if kills:
        events.append(st.builds(_save, st.sampled_from(_SAVES), st.just(False), st.sampled_from(KILLED)))
        events.append(st.just(Crash(while_resuming=True)))
    return st.lists(st.one_of(events), min_size=1, max_size=max_size)


def renamed(old: str, new: str, given: Value | None, value: Value) -> Value:
    """The value given under an old name, with a DeprecationWarning that tells the new one; else `value`."""
    if given is None:
        return value
    warnings.warn(f"{old} is now {new}", DeprecationWarning, stacklevel=3)
    return given


def __getattr__(name: str) -> Any:
    if name == "Weather":
        return renamed(f"{__name__}.Weather", f"{__name__}.ServiceSwitch", ServiceSwitch, ServiceSwitch)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
