"""Checkpoint lists and promotion, of jobs, sessions and managed jobs (WIRE 1.9 to 1.11)."""

import re
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from emulator.core.errors import InvalidArgument
from emulator.core.names import OwnerName, split_resource
from emulator.http import schemas
from emulator.http.bodies import Body, read_body
from emulator.http.control import rows, wire
from emulator.http.control.requests import page_size
from emulator.http.declare import PAGE, Endpoints
from emulator.http.web import Reply
from emulator.platform.checkpoints.promotion import PromoteRequest
from emulator.platform.platform import Platform
from emulator.quirks import promotion
from emulator.state.entities import Model

router = Endpoints()
_LIST_KEYS = {"trainingSessions": "trainingSessionCheckpoints"}
_OWNERS = {
    "job": "rlorTrainerJobs",
    "session": "trainingSessions",
    "sft_job": "supervisedFineTuningJobs",
    "dpo_job": "dpoJobs",
}


class Promote(Body):
    """The body of a promotion, written in snake_case by every known client."""

    output_model: str = ""
    base_model: str = ""
    trainer_job_id: str = ""
    hot_load_deployment_id: str = ""
    async_promotion: bool = False


class Sync(Body):
    """The place where a checkpoint is to be kept, too."""

    region: str = ""
    target_availability: str = ""


_REGION = re.compile(r"[A-Z][A-Z0-9_]{1,63}")


async def list_checkpoints(request: Request) -> Response:
    """List the checkpoints of a job or session, those that are ready."""
    platform: Platform = request.app.state.platform
    owner, asked = _owner(request), request.query_params
    token = rows.token(asked["pageToken"], platform.world.quirks, owner) if "pageToken" in asked else ""
    size = page_size(request) if "pageSize" in asked else 0
    page = platform.checkpoints.list(owner, page_size=size, page_token=token)
    return Reply(rows.listing(page, platform.world.quirks, _LIST_KEYS.get(owner.collection, "checkpoints"), owner))


@router.serve("promote", answer=schemas.PROMOTED, body=Promote)
async def promote_of_account(request: Request) -> Response:
    """Make a model of a checkpoint: the body names the trainer job (FAILURES D13: in full, and of that family)."""
    sent, raw = await read_body(request, Promote)
    if not sent.trainer_job_id:
        raise InvalidArgument("trainer_job_id is required: accounts/<account>/rlorTrainerJobs/<job>")
    account, job = split_resource(sent.trainer_job_id, "rlorTrainerJobs")
    if account != request.path_params["account"]:
        raise InvalidArgument(f"trainer_job_id {sent.trainer_job_id[:200]!r} is of another account")
    return await _promote(request, sent, raw, OwnerName(account, "rlorTrainerJobs", job))


async def promote_of_owner(request: Request) -> Response:
    """Make a model of a checkpoint of the job or session in the path."""
    sent, raw = await read_body(request, Promote)
    return await _promote(request, sent, raw, _owner(request))


@router.serve("sync_checkpoint", answer=schemas.obj({"checkpoint": schemas.ROW}), body=Sync)
async def sync(request: Request) -> Response:
    """Keep a checkpoint in another region, or durably: its row says so, its files are in one place here."""
    sent, _ = await read_body(request, Sync)
    kind = sent.target_availability.replace("AVAILABILITY_CLASS_UNSPECIFIED", "") or "SINGLE_REGION"
    if kind not in ("SINGLE_REGION", "MANAGED_DURABLE"):
        raise InvalidArgument(f"targetAvailability is {kind[:40]!r}: use SINGLE_REGION or MANAGED_DURABLE")
    region = sent.region or "REGION_UNSPECIFIED"
    if not _REGION.fullmatch(region):
        raise InvalidArgument(f"region is {region[:40]!r}: give one such as US_VIRGINIA_1")
    platform: Platform = request.app.state.platform
    done = platform.checkpoints.sync(_owner(request), request.path_params["checkpoint"], kind, region)
    return Reply({"checkpoint": rows.row(done)})


async def _promote(request: Request, sent: Promote, raw: dict[str, Any], owner: OwnerName) -> Response:
    if sent.hot_load_deployment_id:
        split_resource(sent.hot_load_deployment_id, "deployments")
    platform: Platform = request.app.state.platform
    asked = PromoteRequest(
        account=request.path_params["account"],
        owner=owner,
        checkpoint=request.path_params["checkpoint"],
        output_model=sent.output_model,
        base_model=sent.base_model,
        deployment=sent.hot_load_deployment_id,
        knows_operations="async_promotion" in raw or "asyncPromotion" in raw,
        wants_operation=sent.async_promotion,
    )
    done = await run_in_threadpool(platform.promotion.promote, asked)
    if isinstance(done, Model):
        return Reply({"model": wire.model(done, platform.catalogue.model(done.root))})
    style = platform.world.quirks.value(promotion.OPERATIONS_METADATA_STYLE, done.subject)
    return Reply({"operation": wire.operation(done, platform.models, style)})


def _owner(request: Request) -> OwnerName:
    """The job or session that the path names, whatever its collection."""
    collection = request.scope["path"].split("/")[4]
    return OwnerName(request.path_params["account"], collection, request.path_params["owner"])


for _owned, _collection in _OWNERS.items():
    _page = schemas.page(_LIST_KEYS.get(_collection, "checkpoints"), schemas.ROW)
    router.serve(f"list_{_owned}_checkpoints", answer=_page, query=PAGE)(list_checkpoints)
    router.serve(f"promote_of_{_owned}", answer=schemas.PROMOTED, body=Promote)(promote_of_owner)
