"""Lists every job and training session: what it trains, how far it is, when it saved last."""

from dataclasses import dataclass
from itertools import chain

from emulator.core.names import OwnerName
from emulator.http.console.views.curves import Line, paths
from emulator.http.console.views.lists import Slice, Tone, age, pages, short_state, tone
from emulator.platform.platform import Platform
from emulator.state.curves import TOLD, thinned
from emulator.state.entities import Job, Session

SPARK = (96, 24)
_PIECES = 3
"""Pieces of a curve that a line of the list is drawn from."""


@dataclass(frozen=True)
class RunLine:
    """A job or session in the list; `spark` has the points of its newest losses."""

    name: str
    id: str
    what: str
    display_name: str
    account: str
    state: str
    tone: Tone
    base: str
    rank: int
    step: int
    rows: int
    saved: str
    saved_age: str
    age: str
    spark: list[str]


def runs(platform: Platform, asked: str = "", words: str = "") -> Slice[RunLine]:
    """A page of all jobs and sessions, newest first; `words` must be in the name, the display name or the base."""
    world = platform.world
    everything: list[Job | Session] = [*world.jobs, *world.sessions]
    found = [owner for owner in everything if _has(owner, words.lower())] if words else everything
    found.sort(key=lambda owner: owner.created, reverse=True)
    number, count, part = pages(len(found), asked)
    lines = [_line(platform, owner) for owner in found[part] if settled(platform, owner)]
    return Slice(lines, number, count, len(found))


def settled(platform: Platform, owner: Job | Session) -> bool:
    """Carry out what time has brought; False when the owner is forgotten by now."""
    life = platform.jobs.life if isinstance(owner, Job) else platform.sessions.life
    return life.settle(owner)  # type: ignore[arg-type]


def short_model(name: str) -> str:
    """`qwen3-8b`, of whichever account."""
    return name.rpartition("/")[2] or "–"


def step_of(platform: Platform, owner: str) -> int:
    """The last optimizer step that is known of a run."""
    pieces = platform.world.curves.of(owner)[-_PIECES:]
    measured = [piece.steps[-1] for piece in pieces if piece.steps and piece.model_id != TOLD]
    rows = platform.world.checkpoints.of(owner)
    return max(measured[-1] if measured else 0, rows[-1].step if rows else 0)


def _has(owner: Job | Session, words: str) -> bool:
    texts = (owner.name, owner.base_model, owner.display_name if isinstance(owner, Job) else "")
    return any(words in text.lower() for text in texts)


def _line(platform: Platform, owner: Job | Session) -> RunLine:
    world = platform.world
    now, rows = world.clock.now(), world.checkpoints.of(owner.name)
    last = rows[-1] if rows else None
    return RunLine(
        name=owner.name,
        id=owner.id,
        what="job" if OwnerName.parse(owner.name).collection == "rlorTrainerJobs" else "session",
        display_name=owner.display_name if isinstance(owner, Job) else "",
        account=owner.account,
        state=short_state(owner.state),
        tone=tone(owner.state),
        base=short_model(owner.base_model),
        rank=owner.lora_rank,
        step=step_of(platform, owner.name),
        rows=len(rows),
        saved=last.id if last else "",
        saved_age=age(last.created, now) if last else "",
        age=age(owner.created, now),
        spark=_spark(platform, owner.name),
    )


def _spark(platform: Platform, owner: str) -> list[str]:
    pieces = [piece for piece in platform.world.curves.of(owner)[-_PIECES:] if piece.model_id != TOLD]
    pairs = chain.from_iterable(zip(one.steps, one.columns.get("loss", []), strict=False) for one in pieces)
    points = [(step, value) for step, value in pairs if value is not None]
    return paths([Line("", thinned(points, 60))], *SPARK, 60) if len(points) > 1 else []
