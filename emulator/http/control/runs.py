"""/v1/accounts/{account}/trainingRuns: the models that were trained in sessions; and which models are serverless."""

from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from emulator.core.clock import rfc3339
from emulator.http import schemas
from emulator.http.control import wire
from emulator.http.control.requests import listed
from emulator.http.declare import LIST, READ_MASK, Endpoints
from emulator.http.web import Reply, platform_of
from emulator.platform.models.facts import SHARED_ACCOUNT
from emulator.platform.queries.paging import Page, Query
from emulator.state.entities import Model, Run

router = Endpoints()
RUN = schemas.obj(
    {"name": schemas.name_of("trainingRuns"), "baseModel": schemas.STRING, "state": schemas.STRING},
    {"sourceTrainingSessionId": schemas.STRING, "loraRank": schemas.INTEGER, "createTime": schemas.TIME},
)


@router.serve("list_training_runs", answer=schemas.page("trainingRuns", RUN), query=LIST)
async def list_runs(request: Request) -> Response:
    """List training runs, oldest first."""
    platform = platform_of(request)
    runs = sorted(platform.sessions.runs(request.path_params["account"]), key=lambda run: run.created)

    def find(query: Query[Run]) -> Page[Run]:
        return query.page(runs, lambda run: run.created)

    return listed(request, "trainingRuns", partial(_shown, request), find)


@router.serve("get_training_run", answer=RUN, query=READ_MASK)
async def get(request: Request) -> Response:
    """Show a training run."""
    run = platform_of(request).sessions.run(request.path_params["account"], request.path_params["run"])
    return Reply(_shown(request, run))


@router.serve("list_serverless_models", answer=schemas.page("models", schemas.MODEL), query=LIST)
async def serverless_models(request: Request) -> Response:
    """List the models that the service serves without a deployment."""
    models = platform_of(request).models

    def find(query: Query[Model]) -> Page[Model]:
        return query.page(models.serverless(SHARED_ACCOUNT), lambda model: model.created)

    return listed(request, "models", lambda model: wire.model(model, models.facts(model)), find)


def _shown(request: Request, run: Run) -> dict[str, Any]:
    session = platform_of(request).world.sessions.get(run.session)
    live = session is not None and session.running
    return {
        "name": run.name,
        "baseModel": run.base_model,
        "createdBy": wire.email(run.account),
        "sourceTrainingSessionId": run.session_id,
        "loraRank": session.lora_rank if session is not None else 0,
        "state": "READY" if live else "EXPIRED",
        "status": {"code": "OK", "message": ""},
        "createTime": rfc3339(run.created),
        "updateTime": rfc3339(run.created),
    }
