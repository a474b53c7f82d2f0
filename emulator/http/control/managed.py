"""Data sets and managed jobs: reads are answered, writes refused as the service does since November 2026."""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from starlette.requests import Request
from starlette.responses import Response

from emulator.core.clock import rfc3339
from emulator.core.errors import PlatformError
from emulator.http import schemas
from emulator.http.bodies import Body, Ignored
from emulator.http.control.requests import listed
from emulator.http.declare import LIST, READ_MASK, Endpoints, Handler
from emulator.http.web import Reply, platform_of
from emulator.platform.managed import DATASETS, ManagedResources
from emulator.state.managed import Managed

router = Endpoints()
COLLECTIONS = {
    "dataset": DATASETS,
    "sft_job": "supervisedFineTuningJobs",
    "dpo_job": "dpoJobs",
    "rft_job": "reinforcementFineTuningJobs",
    "batch_inference_job": "batchInferenceJobs",
    "evaluation_job": "evaluationJobs",
    "evaluation": "evaluations",
    "evaluator": "evaluators",
}
"""The collections, by what operations call one of each."""
_REFUSED = "whatever is sent, it is refused"
_JOB = (
    "displayName",
    "dataset",
    "evaluationDataset",
    "evalAutoCarveout",
    "wandbConfig",
    "awsS3Config",
    "azureBlobStorageConfig",
    "purpose",
    "trainingConfig",
    "lossConfig",
    "useReservation",
)


class DatasetWrite(Body):
    """The fields of a data set that is not written."""

    ignored: ClassVar[Ignored] = dict.fromkeys(
        (
            "datasetId",
            "dataset",
            "sourceDatasetId",
            "filter",
            "displayName",
            "format",
            "exampleCount",
            "userUploaded",
            "evaluationResult",
            "transformed",
            "splitted",
            "evalProtocol",
            "externalUrl",
            "sourceJobName",
            "filenameToSize",
            "readMask",
            "file",
            "chunkSize",
            "parent",
            "body",
        ),
        _REFUSED,
    )


class ManagedJob(Body):
    """A managed job that is not made."""

    ignored: ClassVar[Ignored] = dict.fromkeys(
        (
            *_JOB,
            "baseModel",
            "warmStartFrom",
            "outputModel",
            "jinjaTemplate",
            "epochs",
            "batchSize",
            "batchSizeSamples",
            "gradientAccumulationSteps",
            "maxContextLength",
            "loraRank",
            "learningRateWarmupSteps",
            "nodes",
            "learningRate",
            "optimizerWeightDecay",
            "lrScheduler",
            "earlyStop",
            "isTurbo",
            "mtpEnabled",
            "mtpFreezeBaseModel",
            "mtpNumDraftTokens",
            "evaluator",
            "inferenceParameters",
            "chunkSize",
            "nodeCount",
            "maxConcurrentRollouts",
            "maxConcurrentEvaluations",
            "maxInferenceReplicaCount",
            "evaluationJob",
            "evaluation",
            "evaluationJobId",
            "evaluationId",
            "evaluatorId",
            "body",
        ),
        _REFUSED,
    )


def shown(entity: Managed) -> dict[str, Any]:
    """A resource as it was imported, under its name here."""
    return {**entity.body, "name": entity.name, "createTime": rfc3339(entity.created), "state": entity.state}


def _target(request: Request) -> tuple[str, str, str]:
    account, collection = request.path_params["account"], request.scope["path"].split("/")[4].partition(":")[0]
    return account, collection, request.path_params.get("managed", "")


def _resources(request: Request) -> ManagedResources:
    return platform_of(request).managed


async def get(request: Request) -> Response:
    """Show one that was imported."""
    return Reply(shown(_resources(request).get(*_target(request))))


async def list_all(request: Request) -> Response:
    """List those that were imported, oldest first."""
    account, collection, _ = _target(request)
    return listed(request, collection, shown, partial(_resources(request).list, account, collection))


async def delete(request: Request) -> Response:
    """Forget one that was imported."""
    _resources(request).delete(*_target(request))
    return Reply({})


def _refused(how: Callable[[Request], PlatformError], doc: str) -> Handler:
    async def handler(request: Request) -> Response:
        raise how(request)

    handler.__doc__ = doc
    return handler


def _write(request: Request) -> PlatformError:
    return _resources(request).refusal_to_write(request.path_params["account"])


def _create(request: Request) -> PlatformError:
    account, collection, _ = _target(request)
    return _resources(request).refusal_to_create(account, collection)


def _move(request: Request) -> PlatformError:
    verb = request.scope["path"].rpartition(":")[2]
    return _resources(request).refusal_of_state(*_target(request), verb)


def _file(request: Request) -> PlatformError:
    return _resources(request).no_file(*_target(request))


_WRITE = _refused(_write, "Refused: data sets are not written.")
_CREATE = _refused(_create, "Refused: no managed job is made.")
_MOVE = _refused(_move, "Refused: managed jobs do not run.")
_FILE = _refused(_file, "Refused: no file is kept.")

for _operation in (
    "create_dataset",
    "update_dataset",
    "get_dataset_upload_endpoint",
    "upload_dataset",
    "validate_dataset_upload",
    "split_dataset",
    "get_dataset_download_endpoint",
):
    _sent = None if _operation == "get_dataset_download_endpoint" else DatasetWrite
    router.serve(_operation, answer=None, body=_sent, query=READ_MASK if _sent is None else {})(_WRITE)
for _operation in ("get_dpo_job_metrics", "get_rft_job_metrics"):
    router.serve(_operation, answer=None)(_FILE)
for _operation in (
    "cancel_sft_job",
    "resume_sft_job",
    "cancel_dpo_job",
    "resume_dpo_job",
    "cancel_rft_job",
    "resume_rft_job",
    "debug_rft_job",
    "update_rft_job",
):
    router.serve(_operation, answer=None, body=ManagedJob)(_MOVE)
router.serve("estimate_sft_job_cost", answer=None, body=ManagedJob)(_CREATE)
for _one, _collection in COLLECTIONS.items():
    if _collection != DATASETS:
        router.serve(f"create_{_one}", answer=None, body=ManagedJob)(_CREATE)
    router.serve(f"list_{_one}s", answer=schemas.page(_collection, schemas.MANAGED), query=LIST)(list_all)
    router.serve(f"get_{_one}", answer=schemas.MANAGED, query=READ_MASK)(get)
    router.serve(f"delete_{_one}")(delete)
