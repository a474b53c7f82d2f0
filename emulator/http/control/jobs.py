"""/v1/accounts/{account}/rlorTrainerJobs (WIRE 1.7, 1.8)."""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from emulator.http import schemas
from emulator.http.bodies import Body, Ignored, read_body, said, takes, unsaid
from emulator.http.control import wire
from emulator.http.control.requests import listed, seconds
from emulator.http.declare import ACTS, LIST, READ_MASK, Endpoints
from emulator.http.web import Reply, platform_of
from emulator.platform.jobs.spec import JobSpec
from emulator.state.settings import TRAINING

router = Endpoints()
_CLUSTER = "no cluster stands behind a trainer here: it is echoed"
_MANAGED = "a job in service mode trains what its client sends: it is echoed"


@takes(JobSpec, TRAINING)
class TrainingConfig(Body):
    """The part of `trainingConfig` that means something here."""

    ignored: ClassVar[Ignored] = {
        **dict.fromkeys(("customImageTag", "acceleratorType", "acceleratorCount", "region", "extraArgs",
                         "trainerShardingScheme"), _CLUSTER),
        **dict.fromkeys(("outputModel", "loraAlpha", "loraDropout", "loraTargetModules", "learningRateWarmupSteps",
                         "lrScheduler", "optimizerWeightDecay", "epochs", "batchSize", "batchSizeSamples",
                         "gradientAccumulationSteps", "jinjaTemplate", "earlyStop"), _MANAGED),
        "projectionHeadDim": "the head is made by create_model, which says its size: it is echoed",
    }  # fmt: skip


@takes(JobSpec)
class CreateJob(Body):
    """The body of a create."""

    training_config: TrainingConfig = Field(default_factory=TrainingConfig)
    inactivity_timeout: str | None = None
    disable_inactivity_cleanup: bool = False

    ignored: ClassVar[Ignored] = {
        **dict.fromkeys(("nodeCount", "trainerReplicaCount", "useReservation", "reservationTarget", "preemptible",
                         "extraValues", "directRouteHandle"), _CLUSTER),
        **dict.fromkeys(("dataset", "evaluationDataset", "evalAutoCarveout", "rewardWeights", "lossConfig",
                         "rolloutDeploymentName"), _MANAGED),
        **dict.fromkeys(("wandbConfig", "awsS3Config", "azureBlobStorageConfig"), "nothing leaves this machine"),
        "usePurpose": "a job is shown with its purpose, and does nothing else with it",
        "serviceMode": "every trainer here is in service mode",
        "keepAlive": "a trainer runs until it is stopped: it is echoed",
    }  # fmt: skip


class Verb(Body):
    """Nothing."""

    ignored: ClassVar[Ignored] = {"body": "the path says it all"}


@router.serve("get_job", answer=schemas.JOB, query=READ_MASK)  # first: clients poll it, and routes are tried in order
async def get(request: Request) -> Response:
    """Show a trainer job, a deleted one for 30 days too."""
    return Reply(wire.job(platform_of(request).jobs.read(**_target(request))))


@router.serve(
    "create_job",
    answer=schemas.JOB,
    body=CreateJob,
    query={"rlorTrainerJobId": ACTS, "trainingShape": ACTS, "skipValidations": ACTS, "deploymentId": ACTS},
)
async def create(request: Request) -> Response:
    """Create a trainer job and start it."""
    sent, raw = await read_body(request, CreateJob)
    query = request.query_params
    spec = _spec(sent, raw, query)
    job = platform_of(request).jobs.create(request.path_params["account"], spec, query.get("rlorTrainerJobId", ""))
    return Reply(wire.job(job))


def _spec(sent: CreateJob, raw: dict[str, Any], query: Mapping[str, str]) -> JobSpec:
    idle = seconds(sent.inactivity_timeout or "0s") or None  # zero asks for the default
    spec = JobSpec(
        **said(sent, JobSpec),
        shape=query.get("trainingShape", ""),
        skip_validations=query.get("skipValidations") == "true",
        inactivity_s=0.0 if sent.disable_inactivity_cleanup else idle,
        config=raw.get("trainingConfig") or raw.get(TRAINING) or {},
        request=unsaid(raw, JobSpec, TRAINING),
    )
    spec.hot_load_deployment = query.get("deploymentId") or spec.hot_load_deployment
    return spec


@router.serve(
    "list_jobs",
    answer=schemas.page("rlorTrainerJobs", schemas.JOB),
    query={**LIST, "includeArchived": "no job is ever archived here"},
)
async def list_jobs(request: Request) -> Response:
    """List trainer jobs that are not deleted, oldest first."""
    find = partial(platform_of(request).jobs.list, request.path_params["account"])
    return listed(request, "rlorTrainerJobs", wire.job, find)


@router.serve("delete_job")
async def delete(request: Request) -> Response:
    """Stop a trainer job and forget it in 30 days."""
    platform_of(request).jobs.delete(**_target(request))
    return Reply({})


@router.serve("resume_job", answer=schemas.JOB, body=Verb)
async def resume(request: Request) -> Response:
    """Start a stopped trainer job again, without its live models."""
    return Reply(wire.job(platform_of(request).jobs.resume(**_target(request))))


@router.serve("cancel_job", body=Verb)
async def cancel(request: Request) -> Response:
    """Stop a trainer job; it can be resumed."""
    platform_of(request).jobs.cancel(**_target(request))
    return Reply({})


def _target(request: Request) -> dict[str, str]:
    return {"account": request.path_params["account"], "job_id": request.path_params["job"]}
