"""Checkpoint rows as a list shows them, with everything that quirks do to them (WIRE 1.9; FAILURES A)."""

from typing import Any

from emulator.core.clock import SECOND, each_rfc3339, rfc3339
from emulator.core.kinds import PROMOTABLE, RESUMABLE
from emulator.core.names import OwnerName
from emulator.platform.queries.paging import Page
from emulator.quirks import rows
from emulator.quirks.engine import Quirks
from emulator.state.entities import Checkpoint

_AGAIN = "again"
_POOLED, _TRAINED = "trainingSessions", "rlorTrainerJobs"
_DIGITS = {"seconds": 0, "millis": 3, "micros": 6, "nanos": 9}
_SHAPING = (
    rows.TIME_PRECISION,
    rows.OMIT,
    rows.DROP_FALSE,
    rows.EXTRA_TYPE,
    rows.KEY_STYLE,
    rows.ENDLESS_TOKEN,
    rows.CLOCK_SKEW_S,
    rows.AVAILABILITY,
    rows.RESTORE_REFERENCE,
)


def token(asked: str, quirks: Quirks, owner: OwnerName) -> str:
    """The page token that a request means: where a list has no end, every token is the first page (FAILURES A7)."""
    return "" if asked == _AGAIN and quirks.value(rows.ENDLESS_TOKEN, owner.subject) else asked


def listing(page: Page[Checkpoint], quirks: Quirks, key: str, owner: OwnerName) -> dict[str, Any]:
    """A page of rows under `key`."""
    if quirks.quiet or not quirks.any_of(_SHAPING):
        created = each_rfc3339([entity.created for entity in page.rows])
        shown = [row(entity, created=text) for entity, text in zip(page.rows, created, strict=True)]
        return {key: shown, "nextPageToken": page.next_token, "totalSize": page.total}
    shown = [_altered(entity, page.start + at, quirks) for at, entity in enumerate(page.rows)]
    shown += _extra(page, quirks, owner)
    following = _AGAIN if quirks.value(rows.ENDLESS_TOKEN, owner.subject) else page.next_token
    match quirks.value(rows.KEY_STYLE, owner.subject):
        case "snake_case":
            return {"checkpoints": shown, "next_page_token": following, "total_size": page.total}
        case "rlorTrainerJobCheckpoints":
            key = "rlorTrainerJobCheckpoints"
    return {key: shown, "nextPageToken": following, "totalSize": page.total}


def row(
    entity: Checkpoint,
    digits: int = 6,
    skew: int = 0,
    created: str = "",
    *,
    kept: str = rows.AVAILABILITY.default,
    reference: str = rows.RESTORE_REFERENCE.default,
) -> dict[str, Any]:
    """One row; `skew` in microseconds, `created` if that is written already, the rest as the switches say.

    There are no regions here, and the row says so.
    """
    created = created or rfc3339(entity.created + skew, digits)
    updated = created if entity.updated == entity.created else rfc3339(entity.updated + skew, digits)
    body: dict[str, Any] = {
        "name": entity.name,
        "createTime": created,
        "updateTime": updated,
        "checkpointType": entity.kind.value,
        "promotable": entity.kind in PROMOTABLE,
    }
    _, _, collection, owner_id = entity.owner.split("/", 3)
    if kept:
        body["availability"] = [
            {"availabilityClass": kept, "region": "REGION_UNSPECIFIED", "createTime": created, "updateTime": updated}
        ]
        for kind, region, moment in entity.copies:
            at = rfc3339(moment + skew, digits)
            body["availability"].append(
                {"availabilityClass": kind, "region": region, "createTime": at, "updateTime": at}
            )
        if collection == _POOLED:
            body["checkpointName"] = entity.id.replace(":", "-", 1)
    if reference != "none" and collection == _TRAINED and entity.kind in RESUMABLE:
        body["restoreReference"] = entity.id if reference == "name" else f"cross_job://{owner_id}/{entity.id}"
    return body


def _altered(entity: Checkpoint, index: int, quirks: Quirks) -> dict[str, Any]:
    precision = quirks.value(rows.TIME_PRECISION, entity.subject)
    digits = _DIGITS.get(precision, 6 * (index % 2))  # FAILURES A1: mixed begins with a coarse stamp
    if precision == "shortest":
        digits = 0 if entity.created % SECOND == 0 else 3 if entity.created % 1000 == 0 else 6
    body = row(
        entity,
        digits,
        int(quirks.value(rows.CLOCK_SKEW_S, entity.subject) * SECOND),
        kept=quirks.value(rows.AVAILABILITY, entity.subject),
        reference=quirks.value(rows.RESTORE_REFERENCE, entity.subject),
    )
    if quirks.value(rows.DROP_FALSE, entity.subject) and not body["promotable"]:
        del body["promotable"]
    omitted = quirks.value(rows.OMIT, entity.subject)
    return {key: value for key, value in body.items() if key not in omitted}


def _extra(page: Page[Checkpoint], quirks: Quirks, owner: OwnerName) -> list[dict[str, Any]]:
    """A row of a type that no client has heard of, at the end of the list (FAILURES A14)."""
    unknown = quirks.value(rows.EXTRA_TYPE, owner.subject)
    if not unknown or page.next_token or not page.rows:
        return []
    last = page.rows[-1]
    return [
        row(last) | {"name": f"{last.owner}/checkpoints/{last.id}-x", "checkpointType": unknown, "promotable": False}
    ]
