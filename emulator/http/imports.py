"""The control API's import: rows, data sets and managed jobs that were listed elsewhere (`ftsim state import`)."""

import re
from typing import Any, get_args

from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from emulator.core.clock import FURTHEST, SECOND, parse_rfc3339
from emulator.core.errors import InvalidArgument, PermissionDenied
from emulator.core.kinds import CheckpointKind
from emulator.core.names import check_dns_label
from emulator.http.bodies import SnakeBody, read_body
from emulator.http.control.managed import COLLECTIONS
from emulator.http.declare import Endpoints
from emulator.http.web import Reply, caller, platform_of
from emulator.platform.imports import Collection, ImportedRow, Listed
from emulator.platform.jobs.spec import LONGEST_DISPLAY_NAME
from emulator.quirks import jobs

router = Endpoints()
_KINDS = {kind.value: kind for kind in CheckpointKind}
_ROW_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}")
MOST_STEP = 10**12
MOST = 2000
"""Rows that one import may have: for each, files are made."""


class Import(SnakeBody):
    """The things that are to be there: the rows of one job or session, and data sets and managed jobs to be read."""

    collection: str = "rlorTrainerJobs"
    id: str = ""
    base_model: str = ""
    lora_rank: int = 0
    display_name: str = ""
    rows: list[dict[str, Any]] = Field(default_factory=list)
    blobs: bool = True
    managed: list[dict[str, Any]] = Field(default_factory=list)


@router.serve("import_rows", body=Import)
async def import_rows(request: Request) -> Response:
    """Bring in `rows` (`{id, checkpointType, createTime, step}`) of a job or session, and what is `managed`."""
    if not request.scope["admin"]:
        raise PermissionDenied("only the emulator's own key may import: it has no other account")
    asked, _ = await read_body(request, Import)
    account, imports = caller(request), platform_of(request).imports
    names: list[str] = []
    listed = _listed(asked) if asked.id else None
    for one in asked.managed:
        collection, identifier = str(one.get("collection")), str(one.get("id"))
        if collection not in COLLECTIONS.values():
            known = ", ".join(COLLECTIONS.values())
            raise InvalidArgument(f"managed: {collection[:80]!r} is no collection: use {known}")
        body = one.get("body")
        if not isinstance(body, dict):
            raise InvalidArgument("managed: give body, the resource as it was read")
        check_dns_label(identifier, "managed: id")
        names.append(imports.managed(account, collection, identifier, body))
    if listed is not None:
        names.append(await run_in_threadpool(imports.rows, account, listed))
    return Reply({"names": names})


def _listed(asked: Import) -> Listed:
    """Raises InvalidArgument."""
    if asked.collection not in get_args(Collection):
        raise InvalidArgument(f"collection is {asked.collection[:80]!r}: use {', '.join(get_args(Collection))}")
    if len(asked.rows) > MOST:
        raise InvalidArgument(f"{len(asked.rows)} rows are too many for one import: at most {MOST}")
    check_dns_label(asked.id, "id")
    most = jobs.MAX_LORA_RANK.default
    if not 0 <= asked.lora_rank <= most:
        raise InvalidArgument(f"lora_rank is {asked.lora_rank}: use 0 to {most}")
    if len(asked.display_name) > LONGEST_DISPLAY_NAME:
        raise InvalidArgument(f"display_name has {len(asked.display_name)} characters: at most {LONGEST_DISPLAY_NAME}")
    rows = [_row(one, number) for number, one in enumerate(asked.rows, 1)]
    return Listed(
        asked.collection,  # type: ignore[arg-type]
        asked.id,
        asked.base_model,
        asked.lora_rank,
        rows,
        asked.blobs,
        asked.display_name,
    )


def _row(sent: dict[str, Any], number: int) -> ImportedRow:
    kind, identifier, step = _KINDS.get(str(sent.get("checkpointType"))), sent.get("id"), sent.get("step", 0)
    if kind is None:
        raise InvalidArgument(f"row {number}: checkpointType is none of {', '.join(_KINDS)}")
    if not isinstance(identifier, str) or not _ROW_ID.fullmatch(identifier):
        raise InvalidArgument(
            f"row {number}: give id, the last part of its name: letters, digits, '.', '_', ':' and '-'"
        )
    if type(step) is not int or not 0 <= step <= MOST_STEP:
        raise InvalidArgument(f"row {number}: step is a number, 0 to {MOST_STEP}")
    try:
        created = parse_rfc3339(str(sent["createTime"])) if sent.get("createTime") else 0
    except ValueError as error:
        raise InvalidArgument(f"row {number}: createTime: {error}") from None
    if not 0 <= created <= FURTHEST or 0 < created <= SECOND:
        raise InvalidArgument(f"row {number}: createTime lies before 1970 or after 9899")
    return ImportedRow(identifier, kind, created, step)
