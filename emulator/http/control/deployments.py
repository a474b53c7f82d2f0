"""/v1/accounts/{account}/deployments (WIRE 1.12, 4.2)."""

from functools import partial
from typing import Any, ClassVar

from pydantic.alias_generators import to_camel, to_snake
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from emulator.core.clock import rfc3339
from emulator.core.errors import InvalidArgument
from emulator.http import schemas
from emulator.http.bodies import Body, Ignored, Refusal, read_body, said, takes, unsaid
from emulator.http.control.requests import listed
from emulator.http.control.wire import Shown
from emulator.http.declare import ACTS, LIST, READ_MASK, Endpoints
from emulator.http.web import Reply, platform_of
from emulator.platform.deployments.deployments import MUTABLE
from emulator.platform.deployments.spec import DeploymentSpec
from emulator.state.entities import Deployment
from emulator.state.settings import DeploymentSettings

router = Endpoints()
_SHOWN = Shown(DeploymentSettings)
_CLUSTER = "no cluster stands behind a deployment here: it is echoed"
_SPEED = "it makes answers faster and no different: it is echoed"
_SCALING = "replicas are as many as minReplicaCount and :scale say, whatever the load: it is echoed"
_POLICY = "autoscaling_policy."
_STARTER = "containers, not models, take it: it is echoed"
_IGNORED = {
    **dict.fromkeys(("acceleratorCount", "placement", "region", "cluster", "preemptible", "pricingPlanId",
                     "deploymentTemplate", "disableDeploymentSizeValidation"), _CLUSTER),
    **dict.fromkeys(("draftModel", "draftTokenCount", "ngramSpeculationLength", "enableMtp", "autoTune",
                     "enableSessionAffinity", "numPeftDeviceCached"), _SPEED),
    **dict.fromkeys(("maxWithRevocableReplicaCount", "maxConcurrencyPerReplica"), _SCALING),
    **dict.fromkeys(("extraArgs", "extraValues"), _STARTER),
    **dict.fromkeys(("directRouteType", "directRouteApiKeys", "directRouteHandle"),
                    "a deployment is reached at the one address of the emulator: it is echoed"),
    **dict.fromkeys(("activeModelVersion", "targetModelVersion"), "models have one version here: it is echoed"),
    "precision": "weights are computed as they were trained: it is echoed",
    "maxContextLength": "the context is the model's: it is echoed",
    "expireTime": "a deployment stays until it is deleted: it is echoed",
}  # fmt: skip


@takes(DeploymentSettings)
class DeploymentBody(Body):
    """The body of a create and of a PATCH."""

    ignored: ClassVar[Ignored] = _IGNORED


class Scale(Body):
    """The number of replicas that are to run now."""

    replica_count: int = 0


class Undelete(Body):
    """Nothing."""

    ignored: ClassVar[Ignored] = {"body": "the path says it all"}


@router.serve("get_deployment", answer=schemas.DEPLOYMENT, query=READ_MASK)
async def get(request: Request) -> Response:
    """Show a deployment."""
    return Reply(deployment(platform_of(request).deployments.get(*_target(request), look=True)))


@router.serve(
    "create_deployment",
    answer=schemas.DEPLOYMENT,
    body=DeploymentBody,
    query={
        "deploymentId": ACTS,
        "acceptShapelessRisk": ACTS,
        "skipShapeValidation": ACTS,
        "validateOnly": Refusal("a deployment is always made"),
        "disableAutoDeploy": "a model is served by the deployments that are asked for, and no other",
        "disableSpeculativeDecoding": _SPEED,
        "skipImageTagValidation": "no image is run here",
    },
)
async def create(request: Request) -> Response:
    """Make a deployment."""
    sent, raw = await read_body(request, DeploymentBody)
    query = request.query_params
    spec = DeploymentSpec(
        **said(sent, DeploymentSettings),
        accept_shapeless_risk=query.get("acceptShapelessRisk") == "true",
        skip_shape_validation=query.get("skipShapeValidation") == "true",
        request=unsaid(raw, DeploymentSettings),
    )
    if "max_replica_count" not in sent.model_fields_set:
        spec.max_replica_count = max(spec.max_replica_count, spec.min_replica_count)
    made = platform_of(request).deployments.create(request.path_params["account"], spec, query.get("deploymentId", ""))
    return Reply(deployment(made))


@router.serve(
    "list_deployments", answer=schemas.page("deployments", schemas.DEPLOYMENT), query={**LIST, "showDeleted": ACTS}
)
async def list_deployments(request: Request) -> Response:
    """List deployments, oldest first; deleted ones when asked for."""
    account, deleted = request.path_params["account"], request.query_params.get("showDeleted") == "true"
    find = partial(platform_of(request).deployments.list, account, deleted=deleted)
    return listed(request, "deployments", deployment, find)


@router.serve("scale_deployment", answer=schemas.EMPTY, body=Scale)
async def scale(request: Request) -> Response:
    """Run so many replicas now."""
    sent, _ = await read_body(request, Scale)
    if "replica_count" not in sent.model_fields_set:
        raise InvalidArgument("replicaCount is required")
    await run_in_threadpool(platform_of(request).deployments.scale, *_target(request), sent.replica_count)
    return Reply({})


@router.serve("undelete_deployment", answer=schemas.DEPLOYMENT, body=Undelete)
async def undelete(request: Request) -> Response:
    """Bring a deleted deployment back, without what it had loaded."""
    return Reply(deployment(platform_of(request).deployments.undelete(*_target(request))))


@router.serve(
    "patch_deployment",
    answer=schemas.DEPLOYMENT,
    body=DeploymentBody,
    query={"updateMask": ACTS, "skipShapeValidation": "a deployment keeps its shape"},
)
async def patch(request: Request) -> Response:
    """Change the fields that updateMask names; without a mask those that were sent."""
    sent, _ = await read_body(request, DeploymentBody)
    mask = request.query_params.get("updateMask")
    names = None if not mask else [to_snake(name.strip()) for name in mask.split(",") if name.strip()]
    values = {name: getattr(sent, name) for name in sent.model_fields_set & set(MUTABLE)}
    if names and any(name.startswith(_POLICY) for name in names):  # a part of it: the rest stays
        known = platform_of(request).deployments.get(*_target(request)).autoscaling_policy
        parts = {to_camel(name.removeprefix(_POLICY)) for name in names if name.startswith(_POLICY)}
        given = {to_camel(to_snake(key)): value for key, value in values.get("autoscaling_policy", {}).items()}
        rest = {key: value for key, value in known.items() if key not in parts}
        values["autoscaling_policy"] = rest | {key: given[key] for key in parts if key in given}
        names = [*(name for name in names if not name.startswith(_POLICY)), "autoscaling_policy"]
    found = await run_in_threadpool(platform_of(request).deployments.patch, *_target(request), values, names)
    return Reply(deployment(found))


@router.serve(
    "delete_deployment",
    query={"hard": ACTS, "ignoreChecks": ACTS},
)
async def delete(request: Request) -> Response:
    """Stop a deployment; `hard` forgets it, otherwise it can be undeleted."""
    hard, checked = (request.query_params.get("hard") == "true", request.query_params.get("ignoreChecks") != "true")
    deployments = platform_of(request).deployments
    await run_in_threadpool(deployments.delete, *_target(request), hard=hard, checked=checked)
    return Reply({})


def deployment(entity: Deployment) -> dict[str, Any]:
    """A deployment as an answer; what the request said and the emulator has no use for is echoed."""
    body = {
        **entity.request,
        **_SHOWN.of(entity),
        "name": entity.name,
        "state": entity.state,
        "status": {"code": "OK" if entity.state != "FAILED" else "INTERNAL", "message": ""},
        "createTime": rfc3339(entity.created),
        "updateTime": rfc3339(entity.updated),
        "replicaCount": len(entity.pods),
        "desiredReplicaCount": entity.replicas,
    }
    if entity.enable_hot_load:
        body |= {
            "hotLoadTransitionType": entity.hot_load_transition_type or "HOT_LOAD_TRANSITION_TYPE_UNSPECIFIED",
            "hotLoadTrainerJob": entity.hot_load_trainer_job,
        }
    if entity.deleted is not None:
        body["deleteTime"] = rfc3339(entity.deleted)
    return body


def _target(request: Request) -> tuple[str, str]:
    return request.path_params["account"], request.path_params["deployment"]
