"""Lists models, promoted ones first, and shows one: where it comes from, its files."""

from dataclasses import dataclass

from emulator.core.clock import rfc3339
from emulator.core.errors import NotFound
from emulator.http.console.views.lists import Slice, Tone, age, pages, size, tone
from emulator.platform.models.models import ADDON
from emulator.platform.platform import Platform
from emulator.state.blobs import RECORD
from emulator.state.entities import Model


@dataclass(frozen=True)
class ModelLine:
    """A model in the list; `owner` and `row` say what it was promoted from, "" for one of the catalogue."""

    name: str
    id: str
    kind: str
    state: str
    tone: Tone
    owner: str
    row: str
    step: int
    base: str
    parameters: str
    context: str
    age: str


@dataclass(frozen=True)
class ModelPage:
    """A model as its page shows it."""

    line: ModelLine
    facts: list[tuple[str, str]]
    fetch: str
    use: str


@dataclass(frozen=True)
class Files:
    """The files behind a row or a model: `folder` on the emulator's machine, files with their sizes."""

    name: str
    what: str
    back: str
    folder: str
    files: list[tuple[str, str]]


def models(platform: Platform, asked: str = "", words: str = "") -> Slice[ModelLine]:
    """A page: what was promoted, newest first, then the catalogue; `words` must be in the name."""
    own = sorted(platform.world.models, key=lambda model: model.created, reverse=True)
    names = [model.name for model in own]
    names += [name for name in platform.catalogue.models if name not in platform.world.models]
    if words:
        names = [name for name in names if words.lower() in name.lower()]
    number, count, part = pages(len(names), asked)
    return Slice([_line(platform, platform.models.get(name)) for name in names[part]], number, count, len(names))


def model(platform: Platform, name: str) -> ModelPage:
    """Raises NotFound, InvalidArgument."""
    found = platform.models.get(name)
    line = _line(platform, found)
    facts = [
        ("kind", found.kind),
        ("parameters", line.parameters),
        ("context", line.context),
        ("type", found.model_type or "–"),
        ("mixture of experts", "yes" if found.moe else "no"),
        ("created", rfc3339(found.created, 0)),
    ]
    if found.kind == ADDON:
        facts += [
            ("adapter on", found.base_model),
            ("rank", str(found.lora_rank)),
            ("modules", ", ".join(found.target_modules)),
        ]
    call = (
        f'httpx.post(f"{{url}}/inference/v1/chat/completions", headers={{"Authorization": f"Bearer {{key}}"}},\n'
        f'    json={{"model": "{name}", "messages": [{{"role": "user", "content": "..."}}]}})'
    )
    return ModelPage(line, facts, f"ftsim models pull {name} ./{found.id}", call)


def files(platform: Platform, name: str) -> Files:
    """The files of a row or a model by its full name; raises NotFound, Damaged, FailedPrecondition."""
    if "/checkpoints/" in name:
        row = platform.world.checkpoints.get(name)
        if row is None:
            raise NotFound(f"there is no row {name[:200]!r} (any more)")
        folder, back, what = platform.checkpoints.folder(row), row.owner, row.id
    else:
        folder, back = platform.models.folder(platform.models.get(name)), ""
        what = name.rpartition("/")[2]
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != RECORD]
    listed = [(path.relative_to(folder).as_posix(), size(path.stat().st_size)) for path in found]
    return Files(name, what, back, str(folder), listed)


def _line(platform: Platform, one: Model) -> ModelLine:
    owner, _, row = one.source_checkpoint.rpartition("/checkpoints/")
    return ModelLine(
        name=one.name,
        id=one.id,
        kind="adapter" if one.kind == ADDON else "embedding" if "EMBED" in one.kind else "full weights",
        state=one.state,
        tone=tone(one.state),
        owner=owner,
        row=row,
        step=one.source_step,
        base=one.base_model.rpartition("/")[2],
        parameters=_count(one.parameter_count),
        context=f"{one.context_length:,}" if one.context_length else "–",
        age=age(one.created, platform.world.clock.now()) if one.blob else "",
    )


def _count(number: int) -> str:
    """`8.2 B`, `130 K`: parameters."""
    for most, unit in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if number >= most:
            return f"{number / most:.3g} {unit}"
    return str(number) if number else "–"
