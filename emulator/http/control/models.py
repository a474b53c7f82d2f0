"""/v1/accounts/{account}/models and the files behind them (WIRE 1.5)."""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Router

from emulator.core.names import resource
from emulator.http.control import wire
from emulator.http.control.requests import Body, list_query, read_body
from emulator.http.web import Reply, platform_of

router = Router()
_PARENT = "/v1/accounts/{account}/models"


class UpdateModel(Body):
    """What may be changed."""

    display_name: str | None = None
    description: str | None = None


async def get(request: Request) -> Response:
    return Reply(wire.model(platform_of(request).models.get(_name(request))))


async def list_models(request: Request) -> Response:
    found = platform_of(request).models.list(request.path_params["account"], list_query(request, wire.model))
    return Reply(wire.listing("models", map(wire.model, found.rows), found.next_token, found.total))


async def update(request: Request) -> Response:
    sent, _ = await read_body(request, UpdateModel)
    changed = platform_of(request).models.update(
        _name(request), display_name=sent.display_name, description=sent.description
    )
    return Reply(wire.model(changed))


async def delete(request: Request) -> Response:
    await run_in_threadpool(platform_of(request).models.delete, _name(request))
    return Reply({})


async def download_endpoint(request: Request) -> Response:
    links = await run_in_threadpool(platform_of(request).downloads.links, _name(request))
    base = str(request.base_url).rstrip("/")
    return Reply({"filenameToSignedUrls": {file: base + link for file, link in links.items()}})


async def file(request: Request) -> Response:
    """No key is asked here: the link is signed."""
    query = request.query_params
    path = platform_of(request).downloads.file(
        _name(request), request.path_params["file"], query.get("expires", ""), query.get("signature", "")
    )
    return FileResponse(path)


def _name(request: Request) -> str:
    return resource(request.path_params["account"], "models", request.path_params["model"])


router.add_route(_PARENT, list_models, methods=["GET"])
router.add_route(_PARENT + "/{model}:getDownloadEndpoint", download_endpoint, methods=["GET"])
router.add_route(_PARENT + "/{model}/files/{file}", file, methods=["GET"])
router.add_route(_PARENT + "/{model}", get, methods=["GET"])
router.add_route(_PARENT + "/{model}", update, methods=["PATCH"])
router.add_route(_PARENT + "/{model}", delete, methods=["DELETE"])
