"""Shows one job or session: its facts, its curves, its checkpoints as a tree and as rows with what each is good for."""

from dataclasses import dataclass

from emulator.core.clock import rfc3339
from emulator.core.errors import NotFound
from emulator.core.names import OwnerName
from emulator.http.console.views.curves import Figure, figures
from emulator.http.console.views.lists import Slice, Tone, age, pages, short_state, size, tone
from emulator.http.console.views.runs import settled, short_model, step_of
from emulator.http.console.views.tree import Tree, tree
from emulator.platform.checkpoints.judgement import Judgement, judge
from emulator.platform.platform import Platform
from emulator.state.curves import Segment, segments, told
from emulator.state.entities import Checkpoint, Job, Session


@dataclass(frozen=True)
class RowLine:
    """A row: what it is, what it is good for and why, and the call of the SDK that uses it."""

    name: str
    id: str
    kind: str
    step: int
    created: str
    age: str
    size: str
    hidden: bool
    loaded_by: str
    judgement: Judgement
    suggested: str
    call: str
    models: list[str]


@dataclass(frozen=True)
class RunPage:
    """A run as its page shows it. `facts` are pairs of a word and a value."""

    name: str
    id: str
    collection: str
    title: str
    state: str
    tone: Tone
    message: str
    running: bool
    step: int
    facts: list[tuple[str, str]]
    deployment: str
    resumes: str
    promotes: str


@dataclass(frozen=True)
class RunCurves:
    """The figures of a run and the steps at which it saved; `version` changes with them."""

    figures: list[Figure]
    saves: list[tuple[int, str]]
    version: str


def owner_named(platform: Platform, name: str) -> Job | Session:
    """The job or session of this full name after what time has brought; raises NotFound."""
    found: Job | Session | None = platform.world.jobs.get(name) or platform.world.sessions.get(name)
    if found is None or not settled(platform, found):
        raise NotFound(f"there is no job and no session {name[:200]!r} (any more)")
    return found


def run(platform: Platform, name: str) -> RunPage:
    """Raises NotFound."""
    owner = owner_named(platform, name)
    now, job = platform.world.clock.now(), owner if isinstance(owner, Job) else None
    rows = platform.checkpoints.rows(owner.name)
    good = [(row, judge(row)) for row in rows[-200:]]
    facts = [
        ("base model", short_model(owner.base_model) if owner.base_model else "not bound yet"),
        ("trains", f"LoRA, rank {owner.lora_rank}" if owner.lora_rank else "all parameters"),
        ("context", f"{owner.max_context_length:,} tokens" if owner.max_context_length else "–"),
        ("created", f"{rfc3339(owner.created, 0)}, {age(owner.created, now)} ago"),
        ("last request", f"{age(owner.last_activity, now)} ago" if owner.last_activity else "–"),
    ]
    if job is not None and job.shape:
        facts.append(("shape", job.shape.rpartition("/trainingShapes/")[2]))
    if job is not None:
        facts.append(("stops when idle", f"after {job.inactivity_s:g} s" if job.inactivity_s else "never"))
    live = platform.trainers.live_models(owner.name)
    facts.append(("models on the trainer", ", ".join(live) or "none"))
    return RunPage(
        name=owner.name,
        id=owner.id,
        collection=OwnerName.parse(owner.name).collection,
        title=(job.display_name if job else "") or owner.id,
        state=short_state(owner.state),
        tone=tone(owner.state),
        message=job.message if job and job.message.upper() != short_state(job.state) else "",
        running=owner.running,
        step=step_of(platform, owner.name),
        facts=facts,
        deployment=job.hot_load_deployment if job else "",
        resumes=next((row.id for row, can in reversed(good) if can.resumable), ""),
        promotes=next((row.id for row, can in reversed(good) if can.promotable), ""),
    )


def run_curves(platform: Platform, name: str) -> RunCurves:
    """Raises NotFound."""
    owner = owner_named(platform, name)
    rows = platform.world.checkpoints.of(owner.name)
    saves = dict.fromkeys((row.step, row.id) for row in rows[-200:])
    said = told(platform.world.curves.of(owner.name))
    return RunCurves(figures(steps(platform, owner.name), said), list(saves), curves_version(platform, owner.name))


def curves_version(platform: Platform, owner: str) -> str:
    """A text that changes whenever a step is taken or a row is saved."""
    pieces, rows = platform.world.curves.of(owner), platform.world.checkpoints.count(owner)
    return f"{len(pieces)}-{sum(len(piece.steps) for piece in pieces)}-{rows}"


def steps(platform: Platform, owner: str) -> list[Segment]:
    return segments(platform.world.curves.of(owner))


def run_tree(platform: Platform, name: str) -> Tree:
    """Raises NotFound."""
    owner = owner_named(platform, name)
    return tree(steps(platform, owner.name), platform.checkpoints.rows(owner.name))


def run_rows(platform: Platform, name: str, asked: str = "") -> Slice[RowLine]:
    """A page of the rows, newest first; raises NotFound."""
    owner = owner_named(platform, name)
    rows = platform.checkpoints.rows(owner.name)
    number, count, part = pages(len(rows), asked)
    shown = list(reversed(rows[max(0, len(rows) - part.stop) : len(rows) - part.start]))
    loaded = platform.ledger.loaded_by(owner.account)
    made: dict[str, list[str]] = {}
    for model in platform.world.models.of(owner.account):
        made.setdefault(model.source_checkpoint, []).append(model.name)
    lines = [_row(platform, owner, row, loaded.get(row.name, []), made.get(row.name, [])) for row in shown]
    return Slice(lines, number, count, len(rows))


def _row(platform: Platform, owner: Job | Session, row: Checkpoint, loaded: list[str], made: list[str]) -> RowLine:
    can = judge(row, there=platform.blobs.exists(row.blob))
    suggested = suggested_model(owner, row)
    return RowLine(
        name=row.name,
        id=row.id,
        kind=row.kind.value.removeprefix("CHECKPOINT_TYPE_"),
        step=row.step,
        created=rfc3339(row.created),
        age=age(row.created, platform.world.clock.now()),
        size=size(row.size),
        hidden=row.pending is not None,
        loaded_by=", ".join(loaded),
        judgement=can,
        suggested=suggested,
        call=sdk_call(owner, row, can, suggested),
        models=made,
    )


def suggested_model(owner: Job | Session, row: Checkpoint) -> str:
    """A model id that a promotion may give: of the base model and the step, in the letters that are allowed."""
    stem = f"{short_model(owner.base_model)}-{owner.id[:12]}-step-{row.step}".lower()
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in stem)[:63].strip("-")


def sdk_call(owner: Job | Session, row: Checkpoint, can: Judgement, model_id: str) -> str:
    """The call of the vendor's SDK that uses the row, "" where it can be used for nothing by itself."""
    if can.promotable and isinstance(owner, Job):
        return (
            f'FireworksClient().promote_checkpoint("{owner.id}", "{row.id}", "{model_id}", '
            f'base_model="{row.base_model}")'
        )
    if can.promotable:
        full = f"accounts/{owner.account}/models/{model_id}"
        return f'FireworksClient().promote_session_checkpoint("{row.name}", "{full}", "{row.base_model}")'
    if not can.resumable:
        return ""
    if isinstance(owner, Job):
        return f'client.load_state_with_optimizer("cross_job://{owner.id}/{row.id}")'
    run, _, name = row.id[4:].partition("-")
    return f'client.load_state_with_optimizer("{owner.account}/run-{run}/{name}")'
