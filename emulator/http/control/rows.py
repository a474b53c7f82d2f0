"""Checkpoint rows as a list shows them, with everything that quirks do to them (WIRE 1.9; FAILURES A)."""

from typing import Any

from emulator.core.clock import SECOND, each_rfc3339, rfc3339
from emulator.core.kinds import PROMOTABLE
from emulator.core.names import OwnerName
from emulator.platform.queries.paging import Page
from emulator.quirks import rows
from emulator.quirks.engine import Quirks
from emulator.state.entities import Checkpoint

_AGAIN = "again"
_DIGITS = {"seconds": 0, "millis": 3, "micros": 6, "nanos": 9}
_SHAPING = (
    rows.TIME_PRECISION,
    rows.OMIT,
    rows.DROP_FALSE,
    rows.EXTRA_TYPE,
    rows.KEY_STYLE,
    rows.ENDLESS_TOKEN,
    rows.CLOCK_SKEW_S,
)


def token(asked: str, quirks: Quirks, owner: OwnerName) -> str:
    """The page token that a request means: where a list has no end, every token is the first page (FAILURES A7)."""
    return "" if asked == _AGAIN and quirks.value(rows.ENDLESS_TOKEN, owner.subject) else asked


def listing(page: Page[Checkpoint], quirks: Quirks, key: str, owner: OwnerName) -> dict[str, Any]:
    """A page of rows under `key`."""
    if quirks.quiet or not quirks.any_of(_SHAPING):
        created = each_rfc3339([entity.created for entity in page.rows])
        shown = [row(entity, created=text) for entity, text in zip(page.rows, created, strict=True)]
        return {key: shown, "nextPageToken": page.next_token}
    shown = [_bent(entity, page.start + at, quirks) for at, entity in enumerate(page.rows)]
    shown += _extra(page, quirks, owner)
    following = _AGAIN if quirks.value(rows.ENDLESS_TOKEN, owner.subject) else page.next_token
    match quirks.value(rows.KEY_STYLE, owner.subject):
        case "snake_case":
            return {"checkpoints": shown, "next_page_token": following}
        case "rlorTrainerJobCheckpoints":
            return {"rlorTrainerJobCheckpoints": shown, "nextPageToken": following}
    return {key: shown, "nextPageToken": following}


def row(entity: Checkpoint, digits: int = 6, skew: int = 0, created: str = "") -> dict[str, Any]:
    """One row; `skew` in microseconds, `created` if that is written already."""
    created = created or rfc3339(entity.created + skew, digits)
    same = entity.updated == entity.created
    return {
        "name": entity.name,
        "createTime": created,
        "updateTime": created if same else rfc3339(entity.updated + skew, digits),
        "checkpointType": entity.kind.value,
        "promotable": entity.kind in PROMOTABLE,
    }


def _bent(entity: Checkpoint, index: int, quirks: Quirks) -> dict[str, Any]:
    precision = quirks.value(rows.TIME_PRECISION, entity.subject)
    digits = _DIGITS.get(precision, 6 * (index % 2))  # FAILURES A1: mixed begins with a coarse stamp
    body = row(entity, digits, int(quirks.value(rows.CLOCK_SKEW_S, entity.subject) * SECOND))
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
