"""/v1/accounts/{account}/rlorTrainerJobs (WIRE 1.7, 1.8)."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Router

from emulator.http.control import wire
from emulator.http.control.requests import Body, list_query, read_body, seconds
from emulator.http.web import Reply, platform_of
from emulator.platform.jobs.spec import JobSpec

router = Router()
_PARENT = "/v1/accounts/{account}/rlorTrainerJobs"


class TrainingConfig(Body):
    """The part of `trainingConfig` that means something here."""

    base_model: str = ""
    lora_rank: int = 0
    learning_rate: float = 0.0
    max_context_length: int = 0
    warm_start_from: str = ""


class CreateJob(Body):
    """The body of a create."""

    training_config: TrainingConfig = Field(default_factory=TrainingConfig)
    display_name: str = ""
    forward_only: bool = False
    purpose: str = ""
    hot_load_deployment_id: str = ""
    inactivity_timeout: str | None = None
    disable_inactivity_cleanup: bool = False


async def create(request: Request) -> Response:
    sent, raw = await read_body(request, CreateJob)
    query = request.query_params
    spec = _spec(sent, raw, query)
    job = platform_of(request).jobs.create(request.path_params["account"], spec, query.get("rlorTrainerJobId", ""))
    return Reply(wire.job(job))


def _spec(sent: CreateJob, raw: dict[str, Any], query: Mapping[str, str]) -> JobSpec:
    config = sent.training_config
    idle = seconds(sent.inactivity_timeout or "0s") or None  # zero asks for the default
    return JobSpec(
        base_model=config.base_model,
        lora_rank=config.lora_rank,
        learning_rate=config.learning_rate,
        max_context_length=config.max_context_length,
        warm_start_from=config.warm_start_from,
        display_name=sent.display_name,
        forward_only=sent.forward_only,
        shape=query.get("trainingShape", ""),
        skip_validations=query.get("skipValidations") == "true",
        hot_load_deployment=query.get("deploymentId") or sent.hot_load_deployment_id,
        purpose=sent.purpose,
        inactivity_s=0.0 if sent.disable_inactivity_cleanup else idle,
        config=raw.get("trainingConfig") or raw.get("training_config") or {},
        request={key: value for key, value in raw.items() if key not in ("trainingConfig", "training_config")},
    )


async def get(request: Request) -> Response:
    return Reply(wire.job(platform_of(request).jobs.read(**_target(request))))


async def list_jobs(request: Request) -> Response:
    found = platform_of(request).jobs.list(request.path_params["account"], list_query(request, wire.job))
    return Reply(wire.listing("rlorTrainerJobs", map(wire.job, found.rows), found.next_token, found.total))


async def delete(request: Request) -> Response:
    platform_of(request).jobs.delete(**_target(request))
    return Reply({})


async def resume(request: Request) -> Response:
    return Reply(wire.job(platform_of(request).jobs.resume(**_target(request))))


async def cancel(request: Request) -> Response:
    platform_of(request).jobs.cancel(**_target(request))
    return Reply({})


def _target(request: Request) -> dict[str, str]:
    return {"account": request.path_params["account"], "job_id": request.path_params["job"]}


router.add_route(_PARENT + "/{job}", get, methods=["GET"])  # first: clients poll it, and routes are tried in order
router.add_route(_PARENT, create, methods=["POST"])
router.add_route(_PARENT, list_jobs, methods=["GET"])
router.add_route(_PARENT + "/{job}:resume", resume, methods=["POST"])
router.add_route(_PARENT + "/{job}:cancel", cancel, methods=["POST"])
router.add_route(_PARENT + "/{job}", delete, methods=["DELETE"])
