"""/v1/accounts/{account}/trainingSessions (WIRE 1.11): the trainer gateway opens them, here they are closed."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Router

from emulator.http.control import wire
from emulator.http.control.requests import list_query
from emulator.http.web import Reply, platform_of

router = Router()
_PARENT = "/v1/accounts/{account}/trainingSessions"


async def get(request: Request) -> Response:
    return Reply(wire.session(platform_of(request).sessions.get(*_target(request))))


async def list_sessions(request: Request) -> Response:
    found = platform_of(request).sessions.list(request.path_params["account"], list_query(request, wire.session))
    return Reply(wire.listing("trainingSessions", map(wire.session, found.rows), found.next_token, found.total))


async def delete(request: Request) -> Response:
    platform_of(request).sessions.delete(*_target(request))
    return Reply({})


def _target(request: Request) -> tuple[str, str]:
    return request.path_params["account"], request.path_params["session"]


router.add_route(_PARENT, list_sessions, methods=["GET"])
router.add_route(_PARENT + "/{session}", get, methods=["GET"])
router.add_route(_PARENT + "/{session}", delete, methods=["DELETE"])
