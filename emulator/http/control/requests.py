"""Reads list queries and protobuf durations, and answers lists; bodies are read in `emulator.http.bodies`."""

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from starlette.requests import Request

from emulator.core.errors import InvalidArgument
from emulator.http.web import Reply
from emulator.platform.queries import filters
from emulator.platform.queries.paging import Page, Query

_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)s")
_OLDEST = frozenset({"", "create_time", "create_time asc", "createTime", "createTime asc"})
_NEWEST = frozenset({"create_time desc", "createTime desc"})
T = TypeVar("T")


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


def listed(
    request: Request, key: str, as_resource: Callable[[T], Mapping[str, Any]], find: Callable[[Query[T]], Page[T]]
) -> Reply:
    """Answer with the page that a list request asks for, each of it `as_resource`; raises InvalidArgument."""
    page = find(list_query(request, as_resource))
    return Reply({key: list(map(as_resource, page.rows)), "nextPageToken": page.next_token, "totalSize": page.total})


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
