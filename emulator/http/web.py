"""What every route needs: the platform behind the app, the parsed body, JSON written with orjson."""

from collections.abc import Callable, Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from emulator.core.errors import InvalidArgument, error_body
from emulator.platform.platform import Platform

_JSON = (b"content-type", b"application/json")


class Reply(Response):
    """A JSON answer; `content` is anything orjson can write, or bytes that already are JSON."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return content if isinstance(content, bytes) else orjson.dumps(content)

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        if headers is None:  # what Starlette would work out anew for every answer
            self.raw_headers = [(b"content-length", b"%d" % len(self.body)), _JSON]
        else:
            super().init_headers(headers)


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


async def body(request: Request) -> dict[str, Any]:
    """The JSON object in the body, `{}` when there is none; raises InvalidArgument."""
    return parse(await request.body())


def parse(raw: bytes) -> dict[str, Any]:
    """A JSON object; raises InvalidArgument for anything else."""
    if not raw:
        return {}
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidArgument(f"the request body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidArgument("the request body must be a JSON object")
    return value
