"""/v1/accounts/{account}/trainingSessions (WIRE 1.11): the trainer gateway opens them, here they are closed."""

from functools import partial

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from emulator.http import schemas
from emulator.http.bodies import Body, read_body
from emulator.http.control import wire
from emulator.http.control.requests import listed
from emulator.http.declare import LIST, READ_MASK, Endpoints
from emulator.http.web import Reply, platform_of

router = Endpoints()


class LoadState(Body):
    """The path of a saved state, as save_weights answered it."""

    path: str = ""


@router.serve("get_session", answer=schemas.TRAINING_SESSION, query=READ_MASK)
async def get(request: Request) -> Response:
    """Show a training session that is not deleted."""
    return Reply(wire.session(platform_of(request).sessions.get(*_target(request))))


@router.serve("list_sessions", answer=schemas.page("trainingSessions", schemas.TRAINING_SESSION), query=LIST)
async def list_sessions(request: Request) -> Response:
    """List training sessions, oldest first."""
    find = partial(platform_of(request).sessions.list, request.path_params["account"])
    return listed(request, "trainingSessions", wire.session, find)


@router.serve("delete_session")
async def delete(request: Request) -> Response:
    """Close a training session."""
    platform_of(request).sessions.delete(*_target(request))
    return Reply({})


@router.serve("load_session_state", answer=schemas.TRAINING_SESSION, body=LoadState)
async def load_state(request: Request) -> Response:
    """Load a saved state, with the optimizer's, into the one model of a session."""
    sent, _ = await read_body(request, LoadState)
    restored = await run_in_threadpool(platform_of(request).restoring.load, *_target(request), sent.path)
    return Reply(wire.session(restored))


def _target(request: Request) -> tuple[str, str]:
    return request.path_params["account"], request.path_params["session"]
