"""/v1/accounts/{account}/operations (WIRE 4.3)."""

from starlette.requests import Request
from starlette.responses import Response

from emulator.core.names import Subject
from emulator.http import schemas
from emulator.http.control import wire
from emulator.http.declare import Endpoints
from emulator.http.web import Reply, platform_of
from emulator.quirks import promotion

router = Endpoints()


@router.serve("get_operation", answer=schemas.OPERATION)
async def get(request: Request) -> Response:
    """Show a long-running operation."""
    platform = platform_of(request)
    account = request.path_params["account"]
    operation = platform.operations.read(account, request.path_params["operation"])
    style = platform.world.quirks.value(promotion.OPERATIONS_METADATA_STYLE, Subject(account=account))
    return Reply(wire.operation(operation, platform.models, style))
