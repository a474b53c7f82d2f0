"""Reading requests: list queries, protobuf durations, bodies with field by field complaints."""

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel, to_snake
from pydantic_core import ErrorDetails
from starlette.requests import Request

from emulator.core.errors import InvalidArgument
from emulator.http.web import body
from emulator.platform.queries import filters
from emulator.platform.queries.paging import Query

_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)s")
_OLDEST = frozenset({"", "create_time", "create_time asc", "createTime", "createTime asc"})
_NEWEST = frozenset({"create_time desc", "createTime desc"})
T = TypeVar("T")
M = TypeVar("M", bound="Body")


class Body(BaseModel):
    """A request body: camelCase or snake_case, null means absent, unknown fields are kept."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="allow", protected_namespaces=())


async def read_body(request: Request, cls: type[M]) -> tuple[M, dict[str, Any]]:
    """The body as `cls` and as it was sent; raises InvalidArgument that names the first wrong field."""
    raw = _without_nulls(await body(request))
    try:
        return cls.model_validate(raw), raw
    except ValidationError as error:
        found = [(_as_sent(raw, one), one["msg"]) for one in error.errors()]
        field = found[0][0]
        said = dict.fromkeys(message for other, message in found if other == field)  # several where it may be several
        raise InvalidArgument(f"invalid field {'.'.join(field)[:120]!r}: {'; or '.join(said)}") from None


def _as_sent(raw: Any, error: ErrorDetails) -> list[str]:
    """The path to a field in the spelling that the request used, without what a type of several calls its members."""
    names = []
    for part in error["loc"]:
        name = to_snake(part) if isinstance(part, str) and isinstance(raw, dict) and part not in raw else part
        there = name in raw if isinstance(raw, dict) else isinstance(raw, list) and isinstance(name, int)
        if not there and error["type"] != "missing":
            break
        raw = raw[name] if there else None
        names.append(str(name))
    return names


def list_query(request: Request, as_resource: Callable[[T], Mapping[str, Any]]) -> Query[T]:
    """pageSize, pageToken, filter and orderBy; raises InvalidArgument."""
    text = request.query_params.get("filter", "")
    terms = filters.parse(text) if text else []
    order = request.query_params.get("orderBy", "").strip()
    if order not in _OLDEST and order not in _NEWEST:
        raise InvalidArgument(f"invalid orderBy {order[:80]!r}: use create_time or create_time desc")
    return Query(
        size=page_size(request),
        token=request.query_params.get("pageToken", ""),
        wanted=(lambda item: filters.matches(terms, as_resource(item))) if terms else None,
        newest_first=order in _NEWEST,
    )


def page_size(request: Request) -> int:
    """The pageSize asked for, 0 when none; raises InvalidArgument."""
    text = request.query_params.get("pageSize") or "0"
    if not re.fullmatch(r"-?\d{1,9}", text, re.ASCII):
        raise InvalidArgument(f"invalid pageSize {text[:40]!r}: give a number")
    return int(text)


def seconds(duration: str) -> float:
    """Seconds of a protobuf duration such as `1800s`; raises InvalidArgument."""
    if (match := _DURATION.fullmatch(duration)) is None:
        raise InvalidArgument(f"invalid duration {duration[:40]!r}: write seconds, for example 1800s")
    return float(match[1])


def _without_nulls(value: dict[str, Any]) -> dict[str, Any]:
    pruned = {key: _without_nulls(item) if isinstance(item, dict) else item for key, item in value.items()}
    return {key: item for key, item in pruned.items() if item is not None}
