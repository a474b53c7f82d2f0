"""/v1/accounts/{account}/operations (WIRE 4.3)."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Router

from emulator.core.names import Subject
from emulator.http.control import wire
from emulator.http.web import Reply, platform_of
from emulator.quirks import promotion

router = Router()


async def get(request: Request) -> Response:
    platform = platform_of(request)
    account = request.path_params["account"]
    operation = platform.operations.read(account, request.path_params["operation"])
    style = platform.world.quirks.value(promotion.OPERATIONS_METADATA_STYLE, Subject(account=account))
    return Reply(wire.operation(operation, platform.models, style))


router.add_route("/v1/accounts/{account}/operations/{operation}", get, methods=["GET"])
