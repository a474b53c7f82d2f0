"""/v1/accounts/{account}/trainingShapes and deploymentShapes, with versions and wildcard parents (WIRE 1.6)."""

from collections.abc import Iterable
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response

from emulator.http import schemas
from emulator.http.bodies import Refusal
from emulator.http.control import wire
from emulator.http.control.requests import listed
from emulator.http.declare import LIST, READ_MASK, Endpoints
from emulator.http.web import Reply, platform_of
from emulator.platform.models.catalogue import versions
from emulator.platform.models.facts import DeploymentShape, TrainingShape

router = Endpoints()
S = TypeVar("S", TrainingShape, DeploymentShape)
_BY_MODEL = {**LIST, "targetModel": Refusal("filter by snapshot.base_model")}


@router.serve(
    "list_training_shape_versions", answer=schemas.page("trainingShapeVersions", schemas.SHAPE_VERSION), query=LIST
)
async def training_versions(request: Request) -> Response:
    """List the versions of a shape; `-` stands for every account or shape."""
    platform = platform_of(request)

    def as_resource(item: tuple[TrainingShape, str]) -> dict[str, object]:
        return wire.training_shape_version(*item, platform)

    named = f"{request.url.path.removesuffix('/versions')} {request.query_params.get('filter', '')}"
    found = versions(platform.catalogue.shapes_named_in(named), "trainingShapes", **_parent(request))
    return listed(request, "trainingShapeVersions", as_resource, lambda query: query.page(found, found.index))


@router.serve("get_training_shape_version", answer=schemas.SHAPE_VERSION, query=READ_MASK)
async def training_version(request: Request) -> Response:
    """Show a version of a training shape."""
    platform = platform_of(request)
    return Reply(wire.training_shape_version(*platform.catalogue.training_shape(_reference(request)), platform))


@router.serve("get_training_shape", answer=schemas.EMPTY, query=READ_MASK)
async def training_shape(request: Request) -> Response:
    """Show a training shape."""
    shape, _ = platform_of(request).catalogue.training_shape(_reference(request))
    return Reply(wire.training_shape(shape))


@router.serve("list_training_shapes", answer=schemas.page("trainingShapes", schemas.EMPTY), query=LIST)
async def training_shapes(request: Request) -> Response:
    """List training shapes."""
    found = _of_account(request, platform_of(request).catalogue.training_shapes.values())
    return listed(request, "trainingShapes", wire.training_shape, lambda query: query.page(found, found.index))


@router.serve(
    "list_deployment_shape_versions", answer=schemas.page("deploymentShapeVersions", schemas.EMPTY), query=LIST
)
async def deployment_versions(request: Request) -> Response:
    """List the versions of a deployment shape; `-` stands for every account or shape."""
    platform = platform_of(request)

    def as_resource(item: tuple[DeploymentShape, str]) -> dict[str, object]:
        return wire.deployment_shape_version(*item, platform)

    found = versions(platform.catalogue.deployment_shapes, "deploymentShapes", **_parent(request))
    return listed(request, "deploymentShapeVersions", as_resource, lambda query: query.page(found, found.index))


@router.serve("get_deployment_shape_version", answer=schemas.EMPTY, query=READ_MASK)
async def deployment_version(request: Request) -> Response:
    """Show a version of a deployment shape."""
    platform = platform_of(request)
    return Reply(wire.deployment_shape_version(*platform.catalogue.deployment_shape(_reference(request)), platform))


@router.serve("get_deployment_shape", answer=schemas.EMPTY, query=READ_MASK)
async def deployment_shape(request: Request) -> Response:
    """Show a deployment shape."""
    platform = platform_of(request)
    shape, _ = platform.catalogue.deployment_shape(_reference(request))
    return Reply(wire.deployment_shape(shape, platform))


@router.serve(
    "list_deployment_shapes",
    answer=schemas.page("deploymentShapes", schemas.EMPTY),
    query=_BY_MODEL,
)
async def deployment_shapes(request: Request) -> Response:
    """List deployment shapes."""
    platform = platform_of(request)

    def as_resource(shape: DeploymentShape) -> dict[str, object]:
        return wire.deployment_shape(shape, platform)

    found = _of_account(request, platform.catalogue.deployment_shapes.values())
    return listed(request, "deploymentShapes", as_resource, lambda query: query.page(found, found.index))


def _of_account(request: Request, shapes: Iterable[S]) -> list[S]:
    """Those of the account in the path, or of all where it is `-`."""
    account = request.path_params["account"]
    return [shape for shape in shapes if account in ("-", shape.name.split("/")[1])]


def _parent(request: Request) -> dict[str, str]:
    return {"account": request.path_params["account"], "shape": request.path_params["shape"]}


def _reference(request: Request) -> str:
    """The resource name in the path."""
    return request.url.path.removeprefix("/v1/")
