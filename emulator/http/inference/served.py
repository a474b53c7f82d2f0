"""/inference/v1/models: what OpenAI's library lists, the models that completions may name."""

from collections.abc import Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from emulator.core.clock import SECOND
from emulator.core.names import resource
from emulator.http import schemas
from emulator.http.declare import Endpoints
from emulator.http.web import Reply, caller, platform_of
from emulator.platform.models.facts import SHARED_ACCOUNT
from emulator.platform.models.models import Models
from emulator.platform.queries.paging import LARGEST, Query
from emulator.state.entities import Model

router = Endpoints()


@router.serve("list_served_models", answer=schemas.SERVED_MODELS)
async def list_models(request: Request) -> Response:
    """List base models and those that the account has promoted."""
    models = platform_of(request).models
    found = [model for account in (SHARED_ACCOUNT, caller(request)) for model in _all(models, account)]
    return Reply({"object": "list", "data": [_shown(model) for model in found if model.state == "READY"]})


@router.serve("get_served_model", answer=schemas.SERVED_MODEL)
async def get(request: Request) -> Response:
    """Show one."""
    name = resource(request.path_params["account"], "models", request.path_params["model"])
    return Reply(_shown(platform_of(request).models.visible(caller(request), name)))


def _all(models: Models, account: str) -> Iterator[Model]:
    token = ""
    while True:
        page = models.list(account, Query(size=LARGEST, token=token))
        yield from page.rows
        if not (token := page.next_token):
            return


def _shown(model: Model) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": model.created // SECOND,
        "owned_by": model.account,
        "kind": model.kind,
        "context_length": model.context_length,
    }
