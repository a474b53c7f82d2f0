"""Checkpoint lists and promotion, of jobs, sessions and managed jobs (WIRE 1.9 to 1.11)."""

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Router

from emulator.core.errors import InvalidArgument
from emulator.core.names import OwnerName, split_resource
from emulator.http.control import rows, wire
from emulator.http.control.requests import Body, page_size, read_body
from emulator.http.web import Reply, platform_of
from emulator.platform.checkpoints.promotion import PromoteRequest
from emulator.quirks import promotion
from emulator.state.entities import Model

router = Router()
_LIST_KEYS = {"trainingSessions": "trainingSessionCheckpoints"}
_OWNERS = ("rlorTrainerJobs", "trainingSessions", "supervisedFineTuningJobs", "dpoJobs")


class Promote(Body):
    """The body of a promotion, written in snake_case by every known client."""

    output_model: str = ""
    base_model: str = ""
    trainer_job_id: str = ""
    hot_load_deployment_id: str = ""
    async_promotion: bool = False


async def list_checkpoints(request: Request) -> Response:
    platform = platform_of(request)
    owner = OwnerName.parse(_owner(request))
    token = rows.token(request.query_params.get("pageToken", ""), platform.world.quirks, owner)
    page = platform.checkpoints.list(str(owner), page_size=page_size(request), page_token=token)
    return Reply(rows.listing(page, platform.world.quirks, _LIST_KEYS.get(owner.collection, "checkpoints"), owner))


async def promote_of_account(request: Request) -> Response:
    """The account-level route: the body names the trainer job (FAILURES D13: in full, and of that family)."""
    sent, raw = await read_body(request, Promote)
    if not sent.trainer_job_id:
        raise InvalidArgument("trainer_job_id is required: accounts/<account>/rlorTrainerJobs/<job>")
    account, _ = split_resource(sent.trainer_job_id, "rlorTrainerJobs")
    if account != request.path_params["account"]:
        raise InvalidArgument(f"trainer_job_id {sent.trainer_job_id[:200]!r} is of another account")
    return await _promote(request, sent, raw, sent.trainer_job_id)


async def promote_of_owner(request: Request) -> Response:
    sent, raw = await read_body(request, Promote)
    return await _promote(request, sent, raw, _owner(request))


async def _promote(request: Request, sent: Promote, raw: dict[str, Any], owner: str) -> Response:
    if sent.hot_load_deployment_id:
        split_resource(sent.hot_load_deployment_id, "deployments")
    platform = platform_of(request)
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
        return Reply({"model": wire.model(done)})
    style = platform.world.quirks.value(promotion.OPERATIONS_METADATA_STYLE, done.subject)
    return Reply({"operation": wire.operation(done, platform.models, style)})


def _owner(request: Request) -> str:
    account, owner = request.path_params["account"], request.path_params["owner"]
    return f"accounts/{account}/{request.url.path.split('/')[4]}/{owner}"


for _collection in _OWNERS:
    _rows = f"/v1/accounts/{{account}}/{_collection}/{{owner}}/checkpoints"
    router.add_route(_rows, list_checkpoints, methods=["GET"])
    router.add_route(_rows + "/{checkpoint}:promote", promote_of_owner, methods=["POST"])
router.add_route("/v1/accounts/{account}/checkpoints/{checkpoint}:promote", promote_of_account, methods=["POST"])
