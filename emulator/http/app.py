"""The HTTP application: every router over one platform, and the vendor's envelope around every error."""

from collections.abc import Collection, Mapping
from functools import cached_property, partial
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response

from emulator.core import limits, unserved
from emulator.core.endpoints import ENDPOINTS
from emulator.core.errors import INFERENCE, SERVERLESS, Cancelled, NotFound, PlatformError, Unimplemented
from emulator.http import admin, control, gateway, health, inference, metrics, tinker
from emulator.http.console import gate
from emulator.http.console.access import Access
from emulator.http.entrance import Layers
from emulator.http.faults import Faults
from emulator.http.guard import Guard
from emulator.http.web import Reply, refusal, request_id
from emulator.journal.journal import Journal
from emulator.platform.platform import Platform
from emulator.quirks import calls
from emulator.state.accounts import Accounts

ROUTERS = (
    *gateway.routers,
    *control.routers,
    *inference.routers,
    *tinker.routers,
    *health.routers,
    *metrics.routers,
    *admin.routers,
)
"""All that is served but the console, in the order in which a path is looked for."""
_FOR_CLIENTS = sorted(
    (row for row in ENDPOINTS if row.path.startswith("/inference/v1/") and not row.parameters),
    key=lambda row: len(row.path),
    reverse=True,
)
"""What clients of other APIs ask for, the longest first: one ends as another does."""


class Application(Starlette):
    """Handlers that parse for themselves; FastAPI is imported when somebody asks what they declare.

    Its import takes a third of a start, and its reading of parameters as long as all the rest of a GET.
    """

    @cached_property
    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document of what the routers declare (`emulator.http.openapi`)."""
        from emulator.http.openapi import document

        return document(self.state.declared)


def create_app(
    platform: Platform,
    *,
    keys: Mapping[str, str],
    journal: Journal | None = None,
    body_limit: int | None = None,
    hosts: Collection[str] = (),
    accounts: Accounts | None = None,
) -> Application:
    """Build the app. `keys` maps API keys to accounts; `body_limit` is in bytes, BODY if not given.

    `hosts` are names under which it is reached, besides addresses and localhost; `accounts` says which accounts
    are here, where the state is on a database server.
    """
    if journal is None:
        journal = Journal(platform.world.clock)
        journal.follow(platform.world, tuple(keys))
    limit = limits.BODY.value if body_limit is None else body_limit
    guard = Guard(keys=keys, body_limit=limit, quirks=platform.world.quirks, hosts=hosts)
    faults = partial(Faults, quirks=platform.world.quirks)
    handlers: dict[Any, Any] = {
        PlatformError: _refused,
        HTTPException: _http_error,
        ClientDisconnect: _left,
        Exception: _crashed,
    }
    forwarding = None
    if accounts is not None:
        from emulator.http.forwarding import Forwarding

        forwarding = Forwarding(accounts, shared=platform.world.store.shared)
    access = Access(keys, platform.world.clock)
    routes = [*gate.routes(access), *(route for router in ROUTERS for route in router.routes)]
    app = Application(
        routes=routes,
        middleware=[Middleware(Layers, journal=journal, guard=guard, faults=faults, forwarding=forwarding)],
        exception_handlers=handlers,
    )
    app.state.platform = platform
    app.state.journal = journal
    app.state.access = access
    app.state.light = False
    app.state.hosts = frozenset(host.lower() for host in hosts)
    app.state.declared = [one for router in ROUTERS for one in router.declared]
    return app


def error_reply(request: Request, status: int, envelope: Mapping[str, Any]) -> Response:
    """Write an error body in the shape that its path or the quirk `errors.style` asks for (FAILURES F17)."""
    style = request.app.state.platform.world.quirks.value(calls.ERRORS_STYLE)
    headers = request_id(request.scope)
    if style == "status" or request.url.path.startswith((SERVERLESS, *INFERENCE)):
        return refusal(request.scope, status, envelope)
    if style == "text":
        return PlainTextResponse(str(envelope["message"]), status, headers)
    return Reply({"detail": envelope["message"]} if style == "detail" else {"error": envelope}, status, headers)


def _instead(method: str, path: str) -> str:
    """Say where the endpoint of inference is that a client with another base URL asks for, "" for any other path."""
    for row in _FOR_CLIENTS:
        before, found, behind = path.rpartition(row.path.removeprefix("/inference/v1"))
        if found and not behind and row.method == method and set(before.split("/")) <= {"", "inference", "v1"}:
            return f"; this is at {row.path}: set the client's base URL so that it asks there"
    return ""


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, PlatformError)
    # A verb that no route has reads as a part of an id: that of what is not there.
    if error.http == 404 and ":" in request.url.path and (known := unserved.found(request.method, request.url.path)):
        error = Unimplemented(known.sentence)
    return error_reply(request, error.http, error.envelope())


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code in (404, 405) and (known := unserved.found(request.method, request.url.path)):
        return error_reply(request, Unimplemented.http, Unimplemented(known.sentence).envelope())
    if error.status_code == 404:
        method, path = request.method, request.url.path
        said = f"no such path: {method} {path[:200]}{_instead(method, path)}"
        return error_reply(request, 404, NotFound(said).envelope())
    detail = f"{error.detail}: {request.method} {request.url.path[:200]}"
    return error_reply(request, error.status_code, {"code": 12, "message": detail, "details": []})


async def _left(request: Request, _error: Exception) -> Response:
    """Nobody reads this but the journal: the client was killed, say, while it sent a body."""
    return error_reply(request, Cancelled.http, Cancelled("the client left before its body was whole").envelope())


async def _crashed(request: Request, error: Exception) -> Response:
    message = f"the emulator failed: {type(error).__name__}: {error}"
    return error_reply(request, 500, {"code": 13, "message": message, "details": []})
