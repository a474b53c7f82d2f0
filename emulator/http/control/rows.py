"""Checkpoint rows as a list shows them, with everything that quirks do to them (WIRE 1.9; FAILURES A)."""

from collections.abc import Sequence
from typing import Any

from emulator.core.clock import SECOND, rfc3339
from emulator.core.kinds import promotable
from emulator.platform.queries.paging import Page
from emulator.quirks.engine import Quirks
from emulator.state.entities import Checkpoint

_AGAIN = "again"
_DIGITS = {"seconds": 0, "millis": 3, "micros": 6, "nanos": 9}
_SHAPING = ("rows.time_precision", "rows.omit", "rows.drop_false", "rows.extra_type", "rows.key_style",
            "rows.endless_token", "clock.skew_s")  # fmt: skip


def token(asked: str, quirks: Quirks, job: str) -> str:
    """The page token that a request means: where a list has no end, every token is the first page (FAILURES A7)."""
    return "" if asked == _AGAIN and quirks.value("rows.endless_token", job=job) else asked


def listing(page: Page[Checkpoint], quirks: Quirks, key: str, job: str) -> dict[str, Any]:
    """A page of rows under `key`."""
    if not quirks.any_of(_SHAPING):
        return {key: [row(entity) for entity in page.rows], "nextPageToken": page.next_token}
    rows = [_bent(entity, page.start + at, quirks, job) for at, entity in enumerate(page.rows)]
    rows += _extra(page, quirks, job)
    following = _AGAIN if quirks.value("rows.endless_token", job=job) else page.next_token
    match quirks.value("rows.key_style", job=job):
        case "snake_case":
            return {"checkpoints": rows, "next_page_token": following}
        case "rlorTrainerJobCheckpoints":
            return {"rlorTrainerJobCheckpoints": rows, "nextPageToken": following}
    return {key: rows, "nextPageToken": following}


def row(entity: Checkpoint, digits: int = 6, skew: int = 0) -> dict[str, Any]:
    """One row; `skew` in microseconds."""
    created = rfc3339(entity.created + skew, digits)
    same = entity.updated == entity.created
    return {
        "name": entity.name,
        "createTime": created,
        "updateTime": created if same else rfc3339(entity.updated + skew, digits),
        "checkpointType": entity.kind.value,
        "promotable": promotable(entity.kind),
    }


def _bent(entity: Checkpoint, index: int, quirks: Quirks, job: str) -> dict[str, Any]:
    subject = {"job": job, "checkpoint": entity.id}
    precision = quirks.value("rows.time_precision", **subject)
    digits = _DIGITS.get(precision, 6 * (index % 2))  # FAILURES A1: mixed begins with a coarse stamp
    body = row(entity, digits, int(quirks.value("clock.skew_s", **subject) * SECOND))
    if quirks.value("rows.drop_false", **subject) and not body["promotable"]:
        del body["promotable"]
    omitted: Sequence[str] = quirks.value("rows.omit", **subject)
    return {key: value for key, value in body.items() if key not in omitted}


def _extra(page: Page[Checkpoint], quirks: Quirks, job: str) -> list[dict[str, Any]]:
    """A row of a type that no client has heard of, at the end of the list (FAILURES A14)."""
    unknown = quirks.value("rows.extra_type", job=job)
    if not unknown or page.next_token or not page.rows:
        return []
    last = page.rows[-1]
    return [
        row(last) | {"name": f"{last.owner}/checkpoints/{last.id}-x", "checkpointType": unknown, "promotable": False}
    ]
