"""Money and token counters: billing/summary, billingUsage, usageCosts:query, from what was really computed."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from emulator.core.clock import parse_rfc3339, rfc3339
from emulator.core.errors import InvalidArgument
from emulator.http import schemas
from emulator.http.bodies import Body, Refusal, Refused, read_body, refuse
from emulator.http.declare import ACTS, Endpoints, Query
from emulator.http.web import Reply, platform_of
from emulator.platform.bills import DAY, Item, Span
from emulator.platform.usage import DEDICATED, HOUR, SERIES, SERVERLESS, TRAINING
from emulator.state.usage import METERS, Usage

router = Endpoints()
_SPAN: Query = {"startTime": ACTS, "endTime": ACTS}
_ALONE = Refusal("an account has one user and one key here")
_NANO = 10**9
MONEY = schemas.obj({"currencyCode": schemas.STRING, "units": schemas.STRING, "nanos": schemas.INTEGER})
LINE_ITEM = schemas.obj(
    {"category": schemas.STRING, "quantity": schemas.NUMBER, "unitAmount": MONEY, "totalCost": MONEY},
    {"groupingKey": schemas.STRING, "groupingValue": schemas.STRING, "series": schemas.STRING},
)
SUMMARY = schemas.obj({"lineItems": schemas.each(LINE_ITEM), "usageBuckets": schemas.each(schemas.EMPTY)})
_LISTS = {SERVERLESS: "serverlessCosts", DEDICATED: "dedicatedCosts", TRAINING: "trainingCosts"}
USAGE = schemas.obj({name: schemas.each(schemas.EMPTY) for name in _LISTS.values()})
COSTS = schemas.obj({"rows": schemas.each(schemas.EMPTY), "subtotal": MONEY}, {"evaluationTime": schemas.TIME})


class CostFilter(Body):
    """The usage that is meant; a session is also a job."""

    model: str = ""
    session_id: str = ""

    refused: ClassVar[Refused] = {"apiKeyId": _ALONE, "user": _ALONE}


class QueryCosts(Body):
    """The body; rows are grouped by HOUR, DAY and MODEL."""

    start_time: str = ""
    end_time: str = ""
    group_by: list[str] = Field(default_factory=list)
    filter: CostFilter = Field(default_factory=CostFilter)

    ignored: ClassVar[Mapping[str, str]] = {
        "scope": "an account has one user here, so both scopes are the same",
        "pageSize": "all rows are given",
        "pageToken": "all rows are given",
    }


@router.serve("get_billing_summary", answer=SUMMARY, query={**_SPAN, "granularity": ACTS})
async def summary(request: Request) -> Response:
    """Show what was prefilled, sampled and trained, and what it would have cost; DAILY adds a bucket for each day."""
    account, span = request.path_params["account"], _span(request.query_params)
    daily = request.query_params.get("granularity", "")
    if daily not in ("", "GRANULARITY_UNSPECIFIED", "DAILY"):
        raise InvalidArgument(f"granularity is {daily[:40]!r}: use DAILY, or leave it out")
    bills = platform_of(request).bills

    def items(part: Span) -> list[dict[str, Any]]:
        return [_item(one) for one in bills.items(account, bills.rows(account, part))]

    days = [
        {"startTime": rfc3339(day.start, 0), "endTime": rfc3339(day.end, 0), "lineItems": items(day)}
        for day in (span.days() if daily == "DAILY" else ())
    ]
    return Reply({"lineItems": items(span), "usageBuckets": days})


@router.serve(
    "get_account_usage",
    answer=USAGE,
    query={
        **_SPAN,
        "usageType": ACTS,
        "groupBy": Refusal("rows are those of a model on one deployment, job or session"),
        "filter": Refusal("all rows are given"),
        "timezone": "times are in UTC",
    },
)
async def usage(request: Request) -> Response:
    """Show the tokens that were computed by each deployment, job and session."""
    account, span, kind = request.path_params["account"], _span(request.query_params), request.query_params
    asked = kind.get("usageType", "").replace("USAGE_TYPE_UNSPECIFIED", "")
    if asked not in ("", *SERIES):
        raise InvalidArgument(f"usageType is {asked[:40]!r}: use {', '.join(SERIES)}")
    rows = platform_of(request).bills.rows(account, span, lambda row: asked in ("", row.series))
    told: dict[str, list[dict[str, Any]]] = {name: [] for name in _LISTS.values()}
    for (series, place, model), group in _groups(rows, lambda row: (row.series, row.place, row.model)).items():
        told[_LISTS[series]].append(_usage_row(series, place, model, group, span))
    return Reply(told)


@router.serve("query_usage_costs", answer=COSTS, body=QueryCosts)
async def costs(request: Request) -> Response:
    """Give the cost of an account, a model or a session, in groups."""
    sent, raw = await read_body(request, QueryCosts)
    refuse(raw.get("filter", {}), CostFilter)
    account, platform = request.path_params["account"], platform_of(request)
    span = _span({"startTime": sent.start_time, "endTime": sent.end_time})
    if unknown := [one for one in sent.group_by if one not in _DIMENSIONS]:
        raise InvalidArgument(f"groupBy: {unknown[0][:40]!r} is none of {', '.join(_DIMENSIONS)}; {_ALONE.why}")
    wanted = sent.filter
    rows = platform.bills.rows(
        account,
        span,
        lambda row: (
            wanted.model in ("", row.model) and wanted.session_id in ("", row.place, row.place.rpartition("/")[2])
        ),
    )
    told = [
        {"dimensions": dict(key), "subtotal": _money(platform.bills.cost(account, group))}
        for key, group in _groups(rows, lambda row: _dimensions(row, sent.group_by)).items()
    ]
    return Reply(
        {
            "rows": told if sent.group_by else [],
            "subtotal": _money(platform.bills.cost(account, rows)),
            "evaluationTime": rfc3339(platform.world.clock.now()),
            "attributionCompleteness": "COMPLETE",
            "nextPageToken": "",
        }
    )


_UNITS = {"HOUR": HOUR, "DAY": DAY}
_DIMENSIONS = (*_UNITS, "MODEL")


def _dimensions(row: Usage, group_by: Sequence[str]) -> tuple[tuple[str, str], ...]:
    finest = min((_UNITS[one] for one in group_by if one in _UNITS), default=0)
    found = [("startTime", rfc3339(row.hour - row.hour % finest, 0))] if finest else []
    return (*found, *([("model", row.model)] if "MODEL" in group_by else []))


def _groups(rows: Sequence[Usage], key: Callable[[Usage], Any]) -> dict[Any, list[Usage]]:
    found: dict[Any, list[Usage]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found


def _usage_row(series: str, place: str, model: str, rows: Sequence[Usage], span: Span) -> dict[str, Any]:
    tokens = {meter: sum(getattr(row, meter) for row in rows) for meter in METERS}
    body: dict[str, Any] = {
        "baseModel": model,
        "usageType": series,
        "tokens": str(sum(tokens.values())),
        "group": {"model": model, **{f"{meter}_tokens": str(count) for meter, count in tokens.items()}},
        "startTime": rfc3339(span.start, 0),
        "endTime": rfc3339(span.end, 0),
    }
    short = place.rpartition("/")[2]
    if "/trainingSessions/" in place:
        return {**body, "trainingSessionId": short}
    if series == TRAINING:
        return {**body, "jobId": short, "jobType": place.split("/")[2], "acceleratorSeconds": "0"}
    return {**body, **({"deployment": place} if place else {})}


def _item(one: Item) -> dict[str, Any]:
    return {
        "category": f"{one.meter} tokens",
        "groupingKey": "model",
        "groupingValue": one.model,
        "secondaryGroupingKey": "meter",
        "secondaryGroupingValue": one.meter,
        "quantity": one.quantity,
        "unitAmount": _money(one.price),
        "totalCost": _money(one.cost),
        "series": one.series,
    }


def _money(nanos: int) -> dict[str, Any]:
    return {"currencyCode": "USD", "units": str(nanos // _NANO), "nanos": nanos % _NANO}


def _span(sent: Mapping[str, str]) -> Span:
    """The time that is asked for; raises InvalidArgument."""
    found = []
    for name in ("startTime", "endTime"):
        if not (text := sent.get(name, "")):
            raise InvalidArgument(f"{name} is required, as RFC 3339: 2026-11-01T00:00:00Z")
        try:
            found.append(parse_rfc3339(text))
        except ValueError:
            raise InvalidArgument(f"{name} is {text[:40]!r}: give RFC 3339, 2026-11-01T00:00:00Z") from None
    return Span(*found)
