"""Has FastAPI write the OpenAPI document of what the routers declare, with the fields of every body."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import Body as FromBody
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.responses import Response

from emulator.core.endpoints import Callers
from emulator.core.errors import SERVERLESS
from emulator.http import schemas
from emulator.http.declare import Declared

_KEY = {"type": "apiKey", "in": "header", "name": "X-Api-Key"}
_JSON = "application/json"


def document(declared: Iterable[Declared]) -> dict[str, Any]:
    """OpenAPI 3.1 of these endpoints, the trainer gateway's verbs one by one."""
    found = get_openapi(
        title="ftsim",
        version="1",
        description="A local emulator of the Fireworks Training API.",
        routes=[_route(one) for one in declared],
    )
    found.setdefault("components", {})["securitySchemes"] = {"key": _KEY}
    return found | {"security": [{"key": []}]}


def with_examples(described: dict[str, Any], exchanges: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Add to a document what was asked and answered, by operation id: `request` and `answer` of each exchange."""
    for methods in described["paths"].values():
        for operation in methods.values():
            exchange = exchanges.get(operation["operationId"], {})
            body = operation.get("requestBody", {}).get("content", {}).get(_JSON)
            if body is not None and exchange.get("request") is not None:
                body["example"] = exchange["request"]
            answered = operation["responses"].get("200", {}).get("content", {}).get(_JSON)
            if answered is not None and exchange.get("answer") is not None:
                answered["example"] = exchange["answer"]
    return described


def _route(one: Declared) -> APIRoute:
    """A route for the document alone: nothing is ever called through it."""
    refused = schemas.GATEWAY_ERROR if one.row.path.startswith(SERVERLESS) else schemas.ERROR
    responses: dict[int | str, dict[str, Any]] = {"default": _response("refused", {_JSON: {"schema": refused}})}
    if one.answer is not None:
        content = {_JSON: {"schema": one.answer}, **{media: {} for media in one.media}}
        responses[200] = _response("done", content)
    return APIRoute(
        one.row.path,
        _signature(one),
        methods=[one.row.method],
        operation_id=one.row.operation,
        tags=[_area(one)],
        summary=one.row.operation.replace("_", " "),
        description=inspect.cleandoc(one.doc),
        responses=responses,
        response_description="done" if one.answer is not None else "never: it is refused",
        response_class=Response,
        status_code=HTTPStatus.OK,
        openapi_extra={"security": []} if one.row.callers in (Callers.ANYONE, Callers.LINK) else None,
    )


def _response(description: str, content: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": dict(content)}


def _signature(one: Declared) -> Callable[..., None]:
    """A function that takes what the endpoint takes, for FastAPI to read."""

    def described() -> None: ...

    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(name, kind, annotation=str) for name in one.row.parameters]
    parameters += [inspect.Parameter(name, kind, annotation=str, default="") for name in one.query]
    if one.body is not None:
        one.body.model_config["defer_build"] = False  # what FastAPI makes of a body that is built later warns
        optional = not any(field.is_required() for field in one.body.model_fields.values())
        sent = FromBody(None) if optional else FromBody()
        parameters.append(inspect.Parameter("sent_body", kind, annotation=one.body, default=sent))
    described.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return described


def _area(one: Declared) -> str:
    """The part of the API that an endpoint belongs to: what docs/wire.md groups by."""
    path = one.row.path
    if path.startswith("/_ftsim") or one.row.callers is Callers.ANYONE:
        return "control API of the emulator"
    if "/api/v1/" in path:
        return "trainer gateway"
    return "control plane" if path.startswith("/v1/accounts") else "inference and hot-load"
