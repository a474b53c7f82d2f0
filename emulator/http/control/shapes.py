"""/v1/accounts/{account}/trainingShapes and deploymentShapes, with versions and wildcard parents (WIRE 1.6)."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Router

from emulator.http.control import wire
from emulator.http.control.requests import list_query
from emulator.http.web import Reply, platform_of
from emulator.platform.models.catalogue import DeploymentShape, TrainingShape, versions

router = Router()


async def training_versions(request: Request) -> Response:
    platform = platform_of(request)

    def as_resource(item: tuple[TrainingShape, str]) -> dict[str, object]:
        return wire.training_shape_version(*item, platform)

    found = versions(platform.catalogue.training_shapes, **_parent(request))
    page = list_query(request, as_resource).page(found, found.index)
    return Reply(wire.listing("trainingShapeVersions", map(as_resource, page.rows), page.next_token, page.total))


async def training_version(request: Request) -> Response:
    platform = platform_of(request)
    return Reply(wire.training_shape_version(*platform.catalogue.training_shape(_reference(request)), platform))


async def training_shape(request: Request) -> Response:
    shape, _ = platform_of(request).catalogue.training_shape(_reference(request))
    return Reply(wire.training_shape(shape))


async def training_shapes(request: Request) -> Response:
    account = request.path_params["account"]
    all_shapes = platform_of(request).catalogue.training_shapes.values()
    found = [shape for shape in all_shapes if account in ("-", shape.name.split("/")[1])]
    page = list_query(request, wire.training_shape).page(found, found.index)
    return Reply(wire.listing("trainingShapes", map(wire.training_shape, page.rows), page.next_token, page.total))


async def deployment_versions(request: Request) -> Response:
    platform = platform_of(request)

    def as_resource(item: tuple[DeploymentShape, str]) -> dict[str, object]:
        return wire.deployment_shape_version(*item, platform)

    found = versions(platform.catalogue.deployment_shapes, **_parent(request))
    page = list_query(request, as_resource).page(found, found.index)
    return Reply(wire.listing("deploymentShapeVersions", map(as_resource, page.rows), page.next_token, page.total))


async def deployment_version(request: Request) -> Response:
    platform = platform_of(request)
    return Reply(wire.deployment_shape_version(*platform.catalogue.deployment_shape(_reference(request)), platform))


async def deployment_shape(request: Request) -> Response:
    platform = platform_of(request)
    shape, _ = platform.catalogue.deployment_shape(_reference(request))
    return Reply(wire.deployment_shape(shape, platform))


async def deployment_shapes(request: Request) -> Response:
    platform = platform_of(request)
    account = request.path_params["account"]

    def as_resource(shape: DeploymentShape) -> dict[str, object]:
        return wire.deployment_shape(shape, platform)

    all_shapes = platform.catalogue.deployment_shapes.values()
    found = [shape for shape in all_shapes if account in ("-", shape.name.split("/")[1])]
    page = list_query(request, as_resource).page(found, found.index)
    return Reply(wire.listing("deploymentShapes", map(as_resource, page.rows), page.next_token, page.total))


def _parent(request: Request) -> dict[str, str]:
    return {"account": request.path_params["account"], "shape": request.path_params["shape"]}


def _reference(request: Request) -> str:
    """The resource name in the path."""
    return request.url.path.removeprefix("/v1/")


for _collection, _all, _one, _versions, _version in (
    ("trainingShapes", training_shapes, training_shape, training_versions, training_version),
    ("deploymentShapes", deployment_shapes, deployment_shape, deployment_versions, deployment_version),
):
    _base = f"/v1/accounts/{{account}}/{_collection}"
    router.add_route(_base, _all, methods=["GET"])
    router.add_route(_base + "/{shape}", _one, methods=["GET"])
    router.add_route(_base + "/{shape}/versions", _versions, methods=["GET"])
    router.add_route(_base + "/{shape}/versions/{version}", _version, methods=["GET"])
