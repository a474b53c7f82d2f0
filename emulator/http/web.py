"""The parts that every route needs: the platform behind the app, the caller, JSON written with orjson."""

from collections.abc import Callable, Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from emulator.core.errors import error_body
from emulator.platform.platform import Platform

_JSON = (b"content-type", b"application/json")


class Reply(Response):
    """A JSON answer; `content` is anything orjson can write, or bytes that already are JSON."""

    media_type = "application/json"

    def __init__(self, content: Any, status_code: int = 200, headers: Mapping[str, str] | None = None) -> None:
        # Not Starlette's own, which works out for every answer anew what is the same for all.
        self.status_code = status_code
        self.background = None
        self.body = content if isinstance(content, bytes) else orjson.dumps(content)
        given = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in (headers or {}).items()]
        self.raw_headers = [*given, (b"content-length", b"%d" % len(self.body)), _JSON]


def platform_of(request: Request) -> Platform:
    platform = request.app.state.platform
    assert isinstance(platform, Platform)
    return platform


def caller(request: Request) -> str:
    """The account whose key the request carries (set by `emulator.http.guard`)."""
    return str(request.scope["account"])


def at_end(request: Request, callback: Callable[[], None]) -> None:
    """Call back when the request is over, its answer sent or given up, streamed or not."""
    request.scope["endings"].append(callback)


def request_id(scope: Scope) -> dict[str, str]:
    """The header that gives the caller's own request id back, if it sent one (WIRE 3.1)."""
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return {"x-request-id": given.decode("latin-1")} if given else {}


def refusal(scope: Scope, status: int, envelope: Mapping[str, Any]) -> Reply:
    """An error as whoever serves this path writes it, with the caller's request id."""
    return Reply(error_body(scope["path"], status, envelope), status, request_id(scope))
