"""/v1/accounts/{account}/models and the files behind them (WIRE 1.5)."""

from functools import partial
from typing import Any, ClassVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from emulator.core.names import resource
from emulator.http import schemas
from emulator.http.bodies import Body, Ignored, Refusal, Refused, read_body
from emulator.http.control import wire
from emulator.http.control.requests import listed
from emulator.http.declare import ACTS, LIST, READ_MASK, Endpoints
from emulator.http.web import Reply, platform_of
from emulator.state.entities import Model

router = Endpoints()
UNREAD: Ignored = {
    **dict.fromkeys(
        ("githubUrl", "huggingFaceUrl", "public", "deprecationDate"), "it is not kept: nothing here reads it"
    ),
    **dict.fromkeys(("defaultDraftModel", "defaultDraftTokenCount"), "answers are computed without a draft"),
}
"""Fields of a model that change nothing."""
_FACT = Refusal("it is a fact about the model's files")


class UpdateModel(Body):
    """The fields that may be changed."""

    display_name: str | None = None
    description: str | None = None

    ignored: ClassVar[Ignored] = UNREAD
    refused: ClassVar[Refused] = {
        **dict.fromkeys(
            ("baseModelDetails", "contextLength", "kind", "peftDetails", "snapshotType", "supportsImageInput",
             "supportsLora", "supportsTools", "teftDetails", "trainingContextLength"), _FACT),
        **dict.fromkeys(("conversationConfig", "useHfApplyChatTemplate"),
                        Refusal("chat goes through the template in the model's files")),
    }  # fmt: skip


@router.serve("list_models", answer=schemas.page("models", schemas.MODEL), query=LIST)
async def list_models(request: Request) -> Response:
    """List models, oldest first."""
    find = partial(platform_of(request).models.list, request.path_params["account"])
    return listed(request, "models", partial(_shown, request), find)


@router.serve(
    "update_model", answer=schemas.MODEL, body=UpdateModel, query={"updateMask": "fields that were sent change"}
)
async def update(request: Request) -> Response:
    """Change what a person reads of a model."""
    sent, _ = await read_body(request, UpdateModel)
    models = platform_of(request).models
    changed = models.update(full_name(request), display_name=sent.display_name, description=sent.description)
    return Reply(_shown(request, changed))


@router.serve("delete_model")
async def delete(request: Request) -> Response:
    """Delete a model that no deployment serves."""
    await run_in_threadpool(platform_of(request).models.delete, full_name(request))
    return Reply({})


@router.serve("get_download_endpoint", answer=schemas.LINKS, query=READ_MASK)
async def download_endpoint(request: Request) -> Response:
    """Give a signed link to every file of a model."""
    links = await run_in_threadpool(platform_of(request).downloads.links, full_name(request))
    base = address(request)
    return Reply({"filenameToSignedUrls": {file: base + link for file, link in links.items()}})


@router.serve("download_model_file", query={"expires": ACTS, "signature": ACTS}, media=("application/octet-stream",))
async def file(request: Request) -> Response:
    """Send a file. No key is asked here: the link is signed."""
    query = request.query_params
    path = platform_of(request).downloads.file(
        full_name(request), request.path_params["file"], query.get("expires", ""), query.get("signature", "")
    )
    return FileResponse(path)


@router.serve("get_model", answer=schemas.MODEL, query=READ_MASK)
async def get(request: Request) -> Response:
    """Show a model."""
    return Reply(_shown(request, platform_of(request).models.get(full_name(request))))


def _shown(request: Request, model: Model) -> dict[str, Any]:
    platform = platform_of(request)
    return wire.model(model, platform.models.facts(model), platform.addons.of_model(model.name))


def address(request: Request) -> str:
    """The URL that links begin with: the address that the connection came to, or the name in Host if it was allowed."""
    if request.url.hostname in request.app.state.hosts:
        return str(request.base_url).rstrip("/")
    host, port = request.scope["server"]
    return f"{request.url.scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def full_name(request: Request) -> str:
    """Give the name of the model in the path."""
    return resource(request.path_params["account"], "models", request.path_params["model"])
