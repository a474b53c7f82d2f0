"""Tells of a deployment what does not stand in its resource: counters, its one shard, why it ended."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from emulator.core.clock import rfc3339
from emulator.http import schemas
from emulator.http.control.requests import seconds
from emulator.http.declare import ACTS, LIST, READ_MASK, Endpoints
from emulator.http.web import Reply, platform_of
from emulator.platform.deployments.deployments import DELETED, FAILED
from emulator.platform.usage import HOUR
from emulator.state.entities import Deployment
from emulator.state.usage import METERS

router = Endpoints()
METRICS = schemas.obj({"metrics": {"type": "object", "additionalProperties": schemas.NUMBER}})
SHARD = schemas.obj({"name": schemas.STRING, "state": schemas.STRING}, {"replicaStats": schemas.EMPTY})
MESSAGE = schemas.obj({"message": schemas.STRING})
_WHOLE = {name: "there is one shard" for name in LIST}
_ENDS = {
    FAILED: "no replica came up: create the deployment again",
    DELETED: "the deployment was deleted: undelete it, or create another",
}


@router.serve("get_deployment_metrics", answer=METRICS, query={"timeRange": ACTS, **READ_MASK})
async def metrics(request: Request) -> Response:
    """Give a deployment's replicas, and what it answered within the last hours (`timeRange`, 3600s), or ever."""
    platform, found = platform_of(request), _found(request)
    text = request.query_params.get("timeRange", "")
    since = platform.world.clock.now() - int(seconds(text) * 1_000_000) if text else 0
    rows = platform.usages.rows(found.account, lambda row: row.place == found.name and row.hour + HOUR > since)
    counted = {name: sum(getattr(row, name) for row in rows) for name in ("requests", *METERS[:3])}
    return Reply({"metrics": {"replicas": len(found.pods), **counted}})


@router.serve("list_deployment_shards", answer=schemas.page("deploymentShards", SHARD), query=_WHOLE)
async def shards(request: Request) -> Response:
    """List the one shard of a deployment: all its replicas."""
    found = _found(request)
    shard = {
        "name": f"{found.name}/shards/0",
        "state": found.state if found.state != DELETED else "DELETING",
        "status": {"code": "OK" if found.state != FAILED else "INTERNAL", "message": _ENDS.get(found.state, "")},
        "replicaStats": _stats(request, found),
        "createTime": rfc3339(found.created),
        "updateTime": rfc3339(found.updated),
    }
    return Reply({"deploymentShards": [shard], "nextPageToken": "", "totalSize": 1})


@router.serve("get_termination_message", answer=MESSAGE)
async def termination_message(request: Request) -> Response:
    """Say why a deployment serves no more; empty while it does."""
    return Reply({"message": _ENDS.get(_found(request).state, "")})


def _stats(request: Request, found: Deployment) -> dict[str, Any]:
    clock = platform_of(request).world.clock
    ready = sum(pod.healthy and clock.reached(pod.started) for pod in found.pods)
    return {
        "pendingSchedulingReplicaCount": max(0, found.replicas - len(found.pods)),
        "initializingReplicaCount": len(found.pods) - ready,
        "readyReplicaCount": ready,
        "effectiveReplicaCount": ready,
    }


def _found(request: Request) -> Deployment:
    return platform_of(request).deployments.get(request.path_params["account"], request.path_params["deployment"])
