"""/v1/accounts/{account}/deployedModels: adapters loaded on deployments, sampled as `model#deployment`."""

from functools import partial
from typing import Any, ClassVar

from starlette.requests import Request
from starlette.responses import Response

from emulator.core.clock import rfc3339
from emulator.http import schemas
from emulator.http.bodies import Body, Refusal, Refused, read_body
from emulator.http.control.requests import listed
from emulator.http.declare import ACTS, LIST, READ_MASK, Endpoints
from emulator.http.web import Reply, platform_of
from emulator.platform.deployments.addons import Loading
from emulator.state.deployed import DeployedModel

router = Endpoints()


class DeployedModelBody(Body):
    """The body of a create and of a PATCH."""

    model: str | None = None
    deployment: str | None = None
    default: bool | None = None
    display_name: str | None = None
    description: str | None = None

    refused: ClassVar[Refused] = {
        "public": Refusal("an add-on is sampled by its own account"),
        "serverless": Refusal("an adapter needs a deployment of your own"),
    }


@router.serve(
    "create_deployed_model",
    answer=schemas.DEPLOYED_MODEL,
    body=DeployedModelBody,
    query={"replaceMergedAddon": ACTS},
)
async def create(request: Request) -> Response:
    """Load an adapter on a deployment that takes add-ons; with replaceMergedAddon in the place of all others."""
    sent, _ = await read_body(request, DeployedModelBody)
    asked = Loading(
        sent.model or "",
        sent.deployment or "",
        default=bool(sent.default),
        display_name=sent.display_name or "",
        description=sent.description or "",
        replace=request.query_params.get("replaceMergedAddon") == "true",
    )
    return Reply(deployed_model(platform_of(request).addons.load(request.path_params["account"], asked)))


@router.serve("get_deployed_model", answer=schemas.DEPLOYED_MODEL, query=READ_MASK)
async def get(request: Request) -> Response:
    """Show a deployed model."""
    return Reply(deployed_model(platform_of(request).addons.get(*_target(request))))


@router.serve("list_deployed_models", answer=schemas.page("deployedModels", schemas.DEPLOYED_MODEL), query=LIST)
async def list_deployed_models(request: Request) -> Response:
    """List deployed models, oldest first."""
    find = partial(platform_of(request).addons.list, request.path_params["account"])
    return listed(request, "deployedModels", deployed_model, find)


@router.serve(
    "update_deployed_model",
    answer=schemas.DEPLOYED_MODEL,
    body=DeployedModelBody,
    query={"updateMask": "fields that were sent change"},
)
async def update(request: Request) -> Response:
    """Change what is said of a deployed model, and whether its model's name alone means it."""
    sent, _ = await read_body(request, DeployedModelBody)
    said = {name: getattr(sent, name) for name in DeployedModelBody.model_fields}
    return Reply(deployed_model(platform_of(request).addons.update(*_target(request), **said)))


@router.serve("delete_deployed_model")
async def delete(request: Request) -> Response:
    """Unload an adapter."""
    platform_of(request).addons.unload(*_target(request))
    return Reply({})


def deployed_model(entity: DeployedModel) -> dict[str, Any]:
    """A deployed model as an answer."""
    return {
        "name": entity.name,
        "displayName": entity.display_name,
        "description": entity.description,
        "createTime": rfc3339(entity.created),
        "updateTime": rfc3339(entity.updated),
        "model": entity.model,
        "deployment": entity.deployment,
        "default": entity.default,
        "state": entity.state,
        "serverless": False,
        "public": False,
        "status": {"code": "OK", "message": ""},
    }


def _target(request: Request) -> tuple[str, str]:
    return request.path_params["account"], request.path_params["deployed"]
