"""Lists and looks up what tinker's own client asks for: runs, their checkpoints, sessions, samplers."""

from collections.abc import Sequence
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from emulator.core.clock import rfc3339
from emulator.core.endpoints import NATIVE
from emulator.core.errors import InvalidArgument
from emulator.http import schemas
from emulator.http.bodies import read_body
from emulator.http.declare import ACTS, Endpoints, Query
from emulator.http.schemas import STRING, each, obj
from emulator.http.tinker import bodies
from emulator.http.tinker.routes import target_of, unserved
from emulator.http.tinker.target import NativeTarget
from emulator.http.web import Reply
from emulator.platform.trainers.native import checkpoint_id, kind
from emulator.state.entities import Checkpoint, Run

router = Endpoints()
T = TypeVar("T")
PAGED: Query = {
    "limit": ACTS,
    "offset": ACTS,
    "access_scope": "there is one owner",
    "project_id": "there is one project",
}
_CURSOR = obj({"offset": schemas.INTEGER, "limit": schemas.INTEGER, "total_count": schemas.INTEGER})
_TYPES = {"weights": "training", "sampler_weights": "sampler", "external_weights": "external"}
_CHECKPOINTS = obj({"checkpoints": each(schemas.EMPTY)})


def _page(request: Request, items: Sequence[T], most: int) -> tuple[Sequence[T], dict[str, int]]:
    """A page of a list, and what the client goes on from; raises InvalidArgument."""
    at, count = _number(request, "offset", 0), _number(request, "limit", most)
    return items[at : at + count], {"offset": at, "limit": count, "total_count": len(items)}


def _number(request: Request, name: str, default: int) -> int:
    said = request.query_params.get(name)
    if said is None:
        return default
    if not said.isdecimal() or len(said) > 9:
        raise InvalidArgument(f"{name} is {said[:40]!r}: give a whole number")
    return int(said)


@router.serve("tinker_runs", answer=obj({"training_runs": each(schemas.EMPTY), "cursor": _CURSOR}), query=PAGED)
async def _runs(request: Request) -> Response:
    """List the account's runs, the newest first."""
    target = target_of(request)
    runs, cursor = _page(request, target.platform.native_runs.all(target.account), 20)
    return Reply({"training_runs": [_run(target, run) for run in runs], "cursor": cursor})


@router.serve("tinker_run", query={"access_scope": "there is one owner"})
async def _one_run(request: Request) -> Response:
    """Describe a run."""
    target = target_of(request)
    return Reply(_run(target, target.platform.native_runs.get(target.account, request.path_params["run"])))


@router.serve("tinker_run_checkpoints", answer=_CHECKPOINTS)
async def _run_checkpoints(request: Request) -> Response:
    """List the checkpoints of a run, the oldest first."""
    target = target_of(request)
    run = target.platform.native_runs.get(target.account, request.path_params["run"])
    return Reply({"checkpoints": [_checkpoint(run, row) for row in target.platform.native_runs.rows(run)]})


@router.serve("tinker_checkpoints", answer=_CHECKPOINTS, query=PAGED)
async def _checkpoints(request: Request) -> Response:
    """List the checkpoints of all runs, the newest first."""
    target = target_of(request)
    runs = target.platform.native_runs
    found = [(run, row) for run in runs.all(target.account) for row in runs.rows(run)]
    found.sort(key=lambda one: one[1].created, reverse=True)
    rows, cursor = _page(request, found, 100)
    return Reply({"checkpoints": [_checkpoint(*one) for one in rows], "cursor": cursor})


@router.serve("tinker_delete_checkpoint")
async def _delete(request: Request) -> Response:
    """Remove a checkpoint and its files."""
    target = target_of(request)
    target.platform.native_runs.delete(target.account, path_of(request))
    return Reply({})


@router.serve("tinker_keep_checkpoint", body=bodies.KeepFor)
async def _keep(request: Request) -> Response:
    """Let a checkpoint expire, or keep it."""
    sent, _ = await read_body(request, bodies.KeepFor)
    target = target_of(request)
    target.platform.native_runs.keep(target.account, path_of(request), sent.ttl_seconds)
    return Reply({})


@router.serve("tinker_sessions", answer=obj({"sessions": each(STRING)}), query=PAGED)
async def _sessions(request: Request) -> Response:
    """List the ids of the account's sessions, the newest first."""
    target = target_of(request)
    sessions, _ = _page(request, target.platform.native_runs.sessions(target.account), 20)
    return Reply({"sessions": sessions})


@router.serve("tinker_session", query={"access_scope": "there is one owner"})
async def _session(request: Request) -> Response:
    """Name the runs and samplers of a session."""
    target, wanted = target_of(request), request.path_params["client"]
    found = target.platform.sessions.get(target.account, wanted)
    runs = [run for run in target.platform.native_runs.all(target.account) if run.session == found.name]
    return Reply(
        {
            "training_run_ids": [run.model_id for run in reversed(runs)],
            "sampler_ids": target.platform.sampling.of(target.account, found.id),
        }
    )


@router.serve("tinker_finish_session", answer=schemas.EMPTY, body=bodies.FinishSession)
async def _finish(request: Request) -> Response:
    """End the session of a client that is closed; what it has saved stays. Twice is no error."""
    target, wanted = target_of(request), request.path_params["client"]
    sessions = target.platform.sessions
    session = sessions.get(target.account, wanted)
    if session.running:
        sessions.leave(session)
    return Reply({})


@router.serve("tinker_sampler")
async def _sampler(request: Request) -> Response:
    """Say which weights a sampling session has."""
    target = target_of(request)
    found = target.platform.sampling.get(target.account, request.path_params["sampler"])
    base = target.platform.models.hub_name(found.base_model)
    return Reply({"sampler_id": found.id, "base_model": base, "model_path": found.path})


def path_of(request: Request) -> str:
    """The save that a request's path names."""
    names = request.path_params
    return f"tinker://{names['run']}/{names['form']}/{names['name']}"


def _run(target: NativeTarget, run: Run) -> dict[str, Any]:
    rows = target.platform.native_runs.rows(run)
    saved: dict[str, Checkpoint] = {kind(row): row for row in rows}
    rank = next((row.lora_rank for row in rows), None)
    seen = max([run.created, *(row.created for row in rows)])
    return {
        "training_run_id": run.model_id,
        "base_model": target.platform.models.hub_name(run.base_model),
        "model_owner": target.account,
        "is_lora": True,
        "lora_rank": rank,
        "corrupted": False,
        "last_request_time": rfc3339(seen),
        "last_checkpoint": _checkpoint(run, saved["weights"]) if "weights" in saved else None,
        "last_sampler_checkpoint": _checkpoint(run, saved["sampler_weights"]) if "sampler_weights" in saved else None,
    }


def _checkpoint(run: Run, row: Checkpoint) -> dict[str, Any]:
    identifier = checkpoint_id(run, row)
    return {
        "checkpoint_id": identifier,
        "checkpoint_type": _TYPES[kind(row)],
        "time": rfc3339(row.created),
        "tinker_path": f"tinker://{run.model_id}/{identifier}",
        "size_bytes": row.size,
        "public": False,
        "expires_at": rfc3339(row.expires) if row.expires else None,
    }


router.add_route(NATIVE + "{path:path}", unserved, methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
