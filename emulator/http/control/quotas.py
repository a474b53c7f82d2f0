"""/v1/accounts/{account}/quotas: what programs look at before they launch."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from emulator.core.clock import rfc3339
from emulator.http import schemas
from emulator.http.declare import LIST, READ_MASK, Endpoints
from emulator.http.web import Reply, platform_of
from emulator.platform.quotas import Quota

router = Endpoints()
_WHOLE = {name: "there are a few, and all are listed" for name in LIST}


@router.serve("list_quotas", answer=schemas.page("quotas", schemas.QUOTA), query=_WHOLE)
async def list_quotas(request: Request) -> Response:
    """List the account's quotas and what is taken of each; what has no limit is left out."""
    found = platform_of(request).quotas.list(request.path_params["account"])
    return Reply({"quotas": [_shown(request, one) for one in found], "nextPageToken": "", "totalSize": len(found)})


@router.serve("get_quota", answer=schemas.QUOTA, query=READ_MASK)
async def get(request: Request) -> Response:
    """Show one quota."""
    found = platform_of(request).quotas.get(request.path_params["account"], request.path_params["quota"])
    return Reply(_shown(request, found))


def _shown(request: Request, quota: Quota) -> dict[str, Any]:
    now = rfc3339(platform_of(request).world.clock.now())
    most = str(quota.most)
    return {"name": quota.name, "value": most, "maxValue": most, "usage": quota.taken, "updateTime": now}
