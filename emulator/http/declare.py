"""Binds handlers to the rows of `emulator.core.endpoints`, each with its request body, its answer and its query.

A router serves with Starlette alone: handlers get the request as it is and parse for themselves, since a bad datum must
fail a future and not a request, and since FastAPI's reading of parameters costs as much as all the rest of a GET. What
is declared here is what `emulator.http.openapi` has FastAPI describe.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Router

from emulator.core.endpoints import Endpoint, row
from emulator.http.bodies import Body, Refusal
from emulator.http.schemas import EMPTY, Schema
from emulator.quirks.engine import unknown

Handler = Callable[[Request], Awaitable[Response]]
H = TypeVar("H", bound=Callable[..., object])

Query = Mapping[str, str | Refusal]
"""The parameters of a query: ACTS, the reason why one changes nothing, or a refusal."""
ACTS = ""
READ_MASK: Query = {"readMask": "answers are whole"}
PAGE: Query = {"pageSize": ACTS, "pageToken": ACTS}
LIST: Query = {**PAGE, "filter": ACTS, "orderBy": ACTS, **READ_MASK}


@dataclass(frozen=True)
class Declared:
    """An endpoint as it is served: its row, its words, what goes in and what comes out.

    `media` are types that an answer may have beside JSON. An endpoint that is only refused has the answer None.
    """

    row: Endpoint
    doc: str
    answer: Schema | None
    body: type[Body] | None
    query: Query
    media: tuple[str, ...]


class Endpoints(Router):
    """A router that remembers what it serves."""

    def __init__(self) -> None:
        super().__init__()
        self.declared: list[Declared] = []

    def serve(
        self,
        operation: str,
        *,
        answer: Schema | None = EMPTY,
        body: type[Body] | None = None,
        query: Query | None = None,
        media: tuple[str, ...] = (),
    ) -> Callable[[Handler], Handler]:
        """Let the decorated function answer an endpoint; raises KeyError for an operation that has no row.

        The answer None says that it is only refused.
        """

        def bind(handler: Handler) -> Handler:
            found = declare(operation, handler, answer=answer, body=body, query=query, media=media)
            self.declared.append(found)
            strict = found.row.path.startswith("/_ftsim/")
            self.add_route(found.row.path, _checked(handler, found.query, strict=strict), methods=[found.row.method])
            return handler

        return bind


def _checked(handler: Handler, query: Query, *, strict: bool) -> Handler:
    """The handler, behind a look at the parameters that are refused if there are any.

    With `strict`, those are all that are not declared: misspelt, one would widen what is asked for.
    """
    refused = {name: rule for name, rule in query.items() if isinstance(rule, Refusal)}
    if not refused and not strict:
        return handler

    async def checked(request: Request) -> Response:
        if strict and request.scope["query_string"]:
            for name in request.query_params:
                if name not in query:
                    raise unknown("query parameter", name, query, "" if query else "there is none here")
        for name, rule in refused.items():
            if (sent := request.query_params.get(name)) is not None:
                rule.check(name, sent != "false" and sent)
        return await handler(request)

    return checked


def declare(
    operation: str,
    handler: Callable[..., object],
    *,
    answer: Schema | None = EMPTY,
    body: type[Body] | None = None,
    query: Query | None = None,
    media: tuple[str, ...] = (),
) -> Declared:
    """A declaration with the handler's docstring; raises KeyError for an operation that has no row."""
    return Declared(row(operation), handler.__doc__ or "", answer, body, query or {}, media)
