"""The control API of a running emulator, `/_ftsim/...`: for tests and the command line."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, Protocol, TypeVar

from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from emulator.core.clock import SECOND, rfc3339
from emulator.core.errors import InvalidArgument, NotFound, PermissionDenied
from emulator.http import imports
from emulator.http.bodies import SnakeBody, body
from emulator.http.declare import ACTS, Endpoints
from emulator.http.web import Reply, caller, platform_of
from emulator.journal import file as journal_file
from emulator.journal.journal import Exchange, Journal
from emulator.journal.redact import Redactor
from emulator.platform import archive
from emulator.quirks import engine
from emulator.quirks.engine import Setting

SHOWN_BYTES = 4096


class Owned(Protocol):
    """An entity of an account."""

    @property
    def account(self) -> str: ...


E = TypeVar("E", bound=Owned)
router = Endpoints()
routers = (imports.router, router)


class Seed(SnakeBody):
    """The number that ids, weights and chance are drawn from."""

    seed: int


class Advance(SnakeBody):
    """Seconds by which the emulator's time moves forward."""

    advance_s: float


class SetQuirk(SnakeBody):
    """A switch to turn on."""

    name: str
    value: Any
    times: int | None = None
    for_s: float | None = None
    chance: float = 1.0
    where: dict[str, str] | None = None


@router.serve("read_state")
async def state(request: Request) -> Response:
    """Show in short what there is."""
    platform = platform_of(request)
    world = platform.world
    jobs = [
        {
            "name": job.name,
            "state": job.state,
            "base_model": job.base_model,
            "lora_rank": job.lora_rank,
            "live_models": platform.trainers.live_models(job.name),
            "checkpoints": [{"id": r.id, "kind": r.kind, "step": r.step} for r in world.checkpoints.of(job.name)],
        }
        for job in _of_caller(request, world.jobs)
    ]
    sessions = [
        {
            "name": s.name,
            "state": s.state,
            "base_model": s.base_model,
            "live_models": platform.trainers.live_models(s.name),
        }
        for s in _of_caller(request, world.sessions)
    ]
    return Reply(
        {
            "time": rfc3339(world.clock.now()),
            "seed": world.ids.seed,
            "jobs": jobs,
            "sessions": sessions,
            "models": [model.name for model in _of_caller(request, world.models)],
            "deployments": [{"name": d.name, "state": d.state} for d in _of_caller(request, world.deployments)],
            "operations": [operation.name for operation in _of_caller(request, world.operations)],
            "quirks": [_setting(setting) for setting in world.quirks.active()] if request.scope["admin"] else [],
        }
    )


def _of_caller(request: Request, entities: Iterable[E]) -> list[E]:
    """Those of the caller's account; all of them for the emulator's own key."""
    mine = caller(request)
    return [entity for entity in entities if request.scope["admin"] or entity.account == mine]


@router.serve("read_rows", query={"owner": ACTS})
async def row_facts(request: Request) -> Response:
    """Show what a checkpoint list leaves out: size, step, how it was saved, what a delta needs, who loaded it.

    `?owner=` is the full name of a job or session."""
    platform = platform_of(request)
    owner = request.query_params.get("owner", "")
    if not owner.startswith(f"accounts/{caller(request)}/"):
        raise InvalidArgument("owner: give the full name of a job or session of your account")
    shown = ("name", "size", "step", "saved_as", "previous_snapshot", "lora_rank", "base_model", "blob")
    loaded = platform.ledger.loaded_by(caller(request))
    described = [
        {**{key: getattr(row, key) for key in shown}, "loaded_by": loaded.get(row.name, [])}
        for row in platform.checkpoints.rows(owner)
    ]
    computes = platform.trainers.computes(owner)
    return Reply({"now": platform.world.clock.now() / SECOND, "computes": computes, "rows": described})


@router.serve("list_snapshots")
async def ledger(request: Request) -> Response:
    """List every snapshot that a replica of a deployment ever loaded or refused, oldest first."""
    platform, deployment = platform_of(request), request.path_params["deployment"]
    entries = platform.ledger.loads(caller(request), deployment)
    shown = ("identity", "replica", "checkpoint", "kind", "previous", "error")
    told = [{**{key: getattr(entry, key) for key in shown}, "time": rfc3339(entry.created)} for entry in entries]
    return Reply({"now": platform.world.clock.now() / SECOND, "snapshots": told})


@router.serve("reset")
async def reset(request: Request) -> Response:
    """Forget everything but the catalogue and the seed."""
    _admin(request)
    await _sent(request)
    return await _begin_anew(request)


async def _begin_anew(request: Request) -> Response:
    platform_of(request).reset()
    _journal(request).clear()
    return Reply({})


@router.serve("set_seed", body=Seed)
async def seed(request: Request) -> Response:
    """Forget everything and start again from another seed."""
    _admin(request)
    value = (await _sent(request, "seed")).get("seed")
    if type(value) is not int:
        raise InvalidArgument("seed: give a number")
    platform_of(request).world.ids.seed = value
    return await _begin_anew(request)


@router.serve("advance_clock", body=Advance)
async def advance(request: Request) -> Response:
    """Move the emulator's time forward by `advance_s` seconds."""
    _admin(request)
    seconds = (await _sent(request, "advance_s")).get("advance_s")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise InvalidArgument("advance_s: give seconds, 0 or more")
    clock = platform_of(request).world.clock
    try:
        clock.advance(seconds)
    except ValueError as error:
        raise InvalidArgument(f"advance_s: {error}") from None
    return Reply({"time": rfc3339(clock.now())})


@router.serve("list_quirks")
async def quirks(request: Request) -> Response:
    """List every switch there is, and those turned on."""
    known = platform_of(request).world.quirks
    table = [
        {key: getattr(q, key) for key in ("name", "by", "default", "doc", "failures", "choices")}
        for q in known.table.values()
    ]
    active = known.active() if request.scope["admin"] else []
    return Reply({"table": table, "active": [_setting(setting) for setting in active]})


@router.serve("set_quirk", body=SetQuirk)
async def set_quirk(request: Request) -> Response:
    """Turn a switch on: `{"name", "value", "times"?, "for_s"?, "chance"?, "where"?: {selector: id}}`."""
    _admin(request)
    asked = await _sent(request, "name", "value", "times", "for_s", "chance", "where")
    where, times, for_s = asked.get("where") or {}, asked.get("times"), asked.get("for_s")
    chance = asked.get("chance", 1.0)
    if not isinstance(asked.get("name"), str) or "value" not in asked or not isinstance(where, Mapping):
        raise InvalidArgument('give {"name": ..., "value": ...}, and "times", "for_s", "where" if you like')
    if (times is not None and type(times) is not int) or (for_s is not None and type(for_s) not in (int, float)):
        raise InvalidArgument("times and for_s are numbers")
    if type(chance) not in (int, float):
        raise InvalidArgument("chance is a number")
    selectors = {str(key): str(value) for key, value in where.items()}
    setting = platform_of(request).world.quirks.set(
        asked["name"], asked["value"], times=times, for_s=for_s, chance=chance, **selectors
    )
    return Reply(_setting(setting))


@router.serve("clear_quirks", query={"name": ACTS})
async def clear_quirks(request: Request) -> Response:
    """Turn all switches off, or those of one name (`?name=`)."""
    _admin(request)
    known, name = platform_of(request).world.quirks, request.query_params.get("name")
    if name is not None and name not in known.table:
        raise engine.unknown_quirk(name, known.table)
    for setting in known.active():
        if name in (None, setting.name):
            setting.off()
    return Reply({})


@router.serve("preempt_job")
async def preempt(request: Request) -> Response:
    """Take a job's machine away (FAILURES F1)."""
    found = platform_of(request).jobs.preempt(caller(request), request.path_params["job"])
    return Reply({"name": found.name, "state": found.state})


@router.serve("end_program")
async def end_program(request: Request) -> Response:
    """End the training sessions that a program has opened with a key that carries its mark, since it is gone."""
    ended = platform_of(request).sessions.end_program(caller(request), request.path_params["program"])
    return Reply({"ended": [session.name for session in ended]})


@router.serve("read_journal", query={"endpoint": ACTS, "limit": ACTS, "format": ACTS}, media=("application/x-ndjson",))
async def journal(request: Request) -> Response:
    """Show the newest exchanges, oldest first: `limit` of one `endpoint`; `format=lines` is the whole file."""
    if request.query_params.get("format") == "lines":
        _admin(request)
        platform = platform_of(request)
        lines = journal_file.write(_journal(request), seed=platform.world.ids.seed, account=platform.account)
        return Response(await run_in_threadpool(lambda: b"".join(lines)), media_type="application/x-ndjson")
    limit, endpoint = request.query_params.get("limit", "100"), request.query_params.get("endpoint")
    if not (limit.isascii() and limit.isdigit() and len(limit) < 10):
        raise InvalidArgument("limit: give a number")
    mine = None if request.scope["admin"] else caller(request)
    kept = [
        entry for entry in _journal(request) if endpoint in (None, entry.endpoint) and mine in (None, entry.account)
    ]
    return Reply({"exchanges": [_exchange(entry) for entry in kept[-int(limit) :]] if int(limit) else []})


@router.serve("take_snapshot", media=("application/zip",))
async def snapshot(request: Request) -> Response:
    """Give the whole platform as an archive, with the journal in it."""
    _admin(request)
    platform, journal = platform_of(request), _journal(request)
    file = platform.blobs.stage() / "state.zip"
    lines = journal_file.write(journal, seed=platform.world.ids.seed, account=platform.account)
    await run_in_threadpool(archive.save, platform, file, {"journal.jsonl": lines})
    forget = BackgroundTask(platform.blobs.discard, file.parent)
    return FileResponse(file, media_type="application/zip", background=forget)


@router.serve("restore_snapshot")
async def restore(request: Request) -> Response:
    """Replace everything by the archive in the body."""
    _admin(request)
    platform = platform_of(request)
    folder = platform.blobs.stage()
    try:
        with (folder / "state.zip").open("wb") as file:
            async for chunk in request.stream():
                file.write(chunk)
        await run_in_threadpool(archive.restore, platform, folder / "state.zip")
    finally:
        platform.blobs.discard(folder)
    _journal(request).clear()
    return Reply({})


@router.serve("open_console")
async def console(request: Request) -> Response:
    """Give a path that lets a browser into the console, once."""
    _admin(request)
    await _sent(request)
    return Reply({"path": request.app.state.access.link()})


@router.serve("read_openapi")
async def openapi(request: Request) -> Response:
    """Describe every endpoint."""
    return Reply(request.app.openapi)


async def unknown(request: Request) -> Response:
    raise NotFound(f"the control API has no {request.path_params['path'][:80]!r}")


def _admin(request: Request) -> None:
    """Raises PermissionDenied for a key of a further account: this is about what all accounts have."""
    if not request.scope["admin"]:
        raise PermissionDenied("this concerns every account of the emulator: use its own key, not one of `keys`")


async def _sent(request: Request, *known: str) -> dict[str, Any]:
    """The body, with no key but these; raises InvalidArgument."""
    sent = await body(request)
    for name in sent:
        if name not in known:
            raise engine.unknown("key", name, known, "" if known else "there is none here")
    return sent


def _journal(request: Request) -> Journal:
    found = request.app.state.journal
    assert isinstance(found, Journal)
    return found


def _setting(setting: Setting) -> dict[str, Any]:
    return {
        "name": setting.name,
        "value": setting.value,
        "where": dict(setting.where),
        "left": setting.left,
        "chance": setting.chance,
        "until": None if setting.until is None else rfc3339(setting.until),
    }


def _exchange(entry: Exchange) -> dict[str, Any]:
    shown = {key: value for key, value in asdict(entry).items() if not key.startswith("_")}
    clean = Redactor()
    text = {
        key: clean.bytes(shown[key][: SHOWN_BYTES + 512])[:SHOWN_BYTES].decode("utf-8", "replace")
        for key in ("request", "response")
    }
    touched = {key: [one._asdict() for one in getattr(entry, key)] for key in ("changes", "quirks")}
    words = {
        "query": clean.text(entry.query),
        "unread": clean.text(entry.unread),
        "endpoint": entry.endpoint,
        "at": rfc3339(entry.at),
    }
    return {**shown, **text, **touched, **words}


router.add_route("/_ftsim/{path:path}", unknown, methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
