"""/v1/accounts/{account}/deployments (WIRE 1.12, 4.2)."""

import re
from typing import Any

from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Router

from emulator.core.clock import rfc3339
from emulator.core.errors import InvalidArgument
from emulator.http.control.requests import Body, list_query, read_body
from emulator.http.control.wire import listing
from emulator.http.web import Reply, platform_of
from emulator.platform.deployments.deployments import MUTABLE
from emulator.platform.deployments.spec import DeploymentSpec
from emulator.state.entities import Deployment

router = Router()
_PARENT = "/v1/accounts/{account}/deployments"
_STATEFUL = frozenset({name for name in MUTABLE if name.startswith(("hot_load", "min_", "max_"))} | {"base_model"})
_HUMP = re.compile(r"(?<=[a-z0-9])([A-Z])")


class Fields(Body):
    """The fields of a deployment that mean something here."""

    base_model: str = ""
    description: str = ""
    display_name: str = ""
    min_replica_count: int = 0
    max_replica_count: int = 1
    enable_hot_load: bool = False
    for_training: bool = False
    hot_load_bucket_type: str = ""
    hot_load_bucket_url: str = ""
    hot_load_trainer_job: str = ""
    hot_load_transition_type: str = ""
    deployment_shape: str = ""
    accelerator_type: str = ""
    annotations: dict[str, str] = Field(default_factory=dict)


class Scale(Body):
    """The body of `:scale`."""

    replica_count: int = 0


async def create(request: Request) -> Response:
    sent, raw = await read_body(request, Fields)
    query = request.query_params
    spec = DeploymentSpec(
        base_model=sent.base_model,
        description=sent.description,
        display_name=sent.display_name,
        min_replicas=sent.min_replica_count,
        max_replicas=max(sent.max_replica_count, sent.min_replica_count)
        if "max_replica_count" not in sent.model_fields_set
        else sent.max_replica_count,
        enable_hot_load=sent.enable_hot_load,
        for_training=sent.for_training,
        bucket_type=sent.hot_load_bucket_type,
        bucket_url=sent.hot_load_bucket_url,
        trainer_job=sent.hot_load_trainer_job,
        transition=sent.hot_load_transition_type,
        shape=sent.deployment_shape,
        accelerator_type=sent.accelerator_type,
        accept_shapeless_risk=query.get("acceptShapelessRisk") == "true",
        skip_shape_validation=query.get("skipShapeValidation") == "true",
        request=raw,
    )
    made = platform_of(request).deployments.create(request.path_params["account"], spec, query.get("deploymentId", ""))
    return Reply(deployment(made))


async def get(request: Request) -> Response:
    return Reply(deployment(platform_of(request).deployments.get(*_target(request), look=True)))


async def list_deployments(request: Request) -> Response:
    found = platform_of(request).deployments.list(
        request.path_params["account"],
        list_query(request, deployment),
        deleted=request.query_params.get("showDeleted") == "true",
    )
    return Reply(listing("deployments", map(deployment, found.rows), found.next_token, found.total))


async def patch(request: Request) -> Response:
    sent, _ = await read_body(request, Fields)
    mask = request.query_params.get("updateMask")
    names = None if not mask else [_snake(name.strip()) for name in mask.split(",") if name.strip()]
    values = {name: getattr(sent, name) for name in sent.model_fields_set & set(MUTABLE)}
    found = await run_in_threadpool(platform_of(request).deployments.patch, *_target(request), values, names)
    return Reply(deployment(found))


async def scale(request: Request) -> Response:
    sent, _ = await read_body(request, Scale)
    if "replica_count" not in sent.model_fields_set:
        raise InvalidArgument("replicaCount is required")
    found = await run_in_threadpool(platform_of(request).deployments.scale, *_target(request), sent.replica_count)
    return Reply(deployment(found))


async def delete(request: Request) -> Response:
    hard = request.query_params.get("hard") == "true"
    await run_in_threadpool(platform_of(request).deployments.delete, *_target(request), hard=hard)
    return Reply({})


async def undelete(request: Request) -> Response:
    return Reply(deployment(platform_of(request).deployments.undelete(*_target(request))))


def deployment(entity: Deployment) -> dict[str, Any]:
    """A deployment; what the request said and the emulator has no use for is echoed."""
    body = {
        **{key: value for key, value in entity.request.items() if _snake(key) not in _STATEFUL},
        "name": entity.name,
        "state": entity.state,
        "status": {"code": "OK" if entity.state != "FAILED" else "INTERNAL", "message": ""},
        "baseModel": entity.base_model,
        "createTime": rfc3339(entity.created),
        "updateTime": rfc3339(entity.updated),
        "minReplicaCount": entity.min_replicas,
        "maxReplicaCount": entity.max_replicas,
        "replicaCount": len(entity.pods),
        "desiredReplicaCount": entity.replicas,
        "enableHotLoad": entity.enable_hot_load,
    }
    if entity.enable_hot_load:
        body |= {
            "hotLoadBucketType": entity.bucket_type,
            "hotLoadBucketUrl": entity.bucket_url,
            "hotLoadTransitionType": entity.transition or "HOT_LOAD_TRANSITION_TYPE_UNSPECIFIED",
            "hotLoadTrainerJob": entity.trainer_job,
        }
    optional = {
        "deploymentShape": entity.shape,
        "deleteTime": rfc3339(entity.deleted) if entity.deleted is not None else "",
    }
    return body | {key: value for key, value in optional.items() if value}


def _snake(name: str) -> str:
    return _HUMP.sub(lambda match: f"_{match[1].lower()}", name)


def _target(request: Request) -> tuple[str, str]:
    return request.path_params["account"], request.path_params["deployment"]


router.add_route(_PARENT, create, methods=["POST"])
router.add_route(_PARENT, list_deployments, methods=["GET"])
router.add_route(_PARENT + "/{deployment}:scale", scale, methods=["PATCH"])
router.add_route(_PARENT + "/{deployment}:undelete", undelete, methods=["POST"])
router.add_route(_PARENT + "/{deployment}", get, methods=["GET"])
router.add_route(_PARENT + "/{deployment}", patch, methods=["PATCH"])
router.add_route(_PARENT + "/{deployment}", delete, methods=["DELETE"])
