"""The shapes of answers, as JSON Schema (WIRE 1, 2, 8): for the OpenAPI document and for contract checks."""

from collections.abc import Mapping
from typing import Any

from pydantic.alias_generators import to_camel

from emulator.core.settings import settings
from emulator.state.settings import TRAINING, DeploymentSettings, JobSettings

Schema = dict[str, Any]

ID = r"[A-Za-z0-9][A-Za-z0-9._~-]*"
RFC3339 = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$"
STRING: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
BOOLEAN: Schema = {"type": "boolean"}
TIME: Schema = {"type": "string", "pattern": RFC3339}
JOB_STATES = (
    "UNSPECIFIED", "CREATING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED", "DELETING", "WRITING_RESULTS",
    "VALIDATING", "DELETING_CLEANING_UP", "PENDING", "EXPIRED", "RE_QUEUEING", "CREATING_INPUT_DATASET", "IDLE",
    "CANCELLING", "EARLY_STOPPED", "PAUSED", "DELETED", "ARCHIVED",
)  # fmt: skip
SESSION_STATES = ("UNSPECIFIED", "READY", "FAILED", "DELETING", "EXPIRED")
CHECKPOINT_TYPES = ("TRAINING", "TRAINING_LORA", "INFERENCE_BASE", "INFERENCE_LORA", "INFERENCE_ARC_V2")


def obj(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    """An object with these fields; others may be there too."""
    return {"type": "object", "properties": {**required, **(optional or {})}, "required": list(required)}


def each(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def one_of(prefix: str, names: tuple[str, ...]) -> Schema:
    return {"type": "string", "enum": [prefix + name for name in names]}


def name_of(*collections: str) -> Schema:
    """A resource name such as `accounts/a/models/m`."""
    tail = "".join(f"/{collection}/{ID}" for collection in collections)
    return {"type": "string", "pattern": f"^accounts/{ID}{tail}$"}


def of(cls: type, within: str = "") -> dict[str, Schema]:
    """The fields that a class declares with `emulator.core.settings`, as an answer, or an object in it, writes them."""
    types: Mapping[Any, Schema] = {str: STRING, int: INTEGER, float: NUMBER, bool: BOOLEAN}
    found = [one for one in settings(cls).values() if one.within == within]
    return {to_camel(one.key): types.get(one.type, {"type": "object"}) for one in found}


def page(key: str, item: Schema) -> Schema:
    """One page of a list; the total is not always there."""
    return obj({key: each(item), "nextPageToken": STRING}, {"totalSize": INTEGER})


EMPTY: Schema = {"type": "object"}
STATUS = obj({"message": STRING}, {"code": {"type": ["string", "integer"]}})
ERROR = obj({"code": INTEGER, "message": {"type": "string", "minLength": 1}, "details": {"type": "array"}})
GATEWAY_ERROR = obj({"error": obj({"code": STRING, "type": STRING, "message": {"type": "string", "minLength": 1}})})
ACCOUNT = obj({"name": name_of()}, {"email": STRING, "displayName": STRING})
JOB = obj(
    {
        "name": name_of("rlorTrainerJobs"),
        "state": one_of("JOB_STATE_", JOB_STATES),
        "createTime": TIME,
        "trainingConfig": obj({"baseModel": STRING}, of(JobSettings, TRAINING)),
    },
    {"status": STATUS, "hotLoadBucketUrl": STRING, **of(JobSettings)},
)
TRAINING_SESSION = obj(
    {
        "name": name_of("trainingSessions"),
        "displayName": STRING,
        "createdBy": STRING,
        "state": one_of("TRAINING_SESSION_STATE_", SESSION_STATES),
        "referenceState": one_of("TRAINING_SESSION_REFERENCE_STATE_", ("UNSPECIFIED", "BASE", "ADAPTER")),
        "status": STATUS,
        "createTime": TIME,
    },
    {"updateTime": TIME, "baseModel": STRING},
)
AVAILABILITY = obj(
    {
        "availabilityClass": one_of("", ("AVAILABILITY_CLASS_UNSPECIFIED", "SINGLE_REGION", "MANAGED_DURABLE")),
        "region": STRING,
    },
    {"createTime": TIME, "updateTime": TIME},
)
MANAGED = obj(
    {"name": {"type": "string", "pattern": f"^accounts/{ID}/[A-Za-z]+/.+$"}, "state": STRING, "createTime": TIME},
    {"displayName": STRING},
)
ROW = obj(
    {
        "name": {"type": "string", "pattern": f"^accounts/{ID}/[A-Za-z]+/{ID}/checkpoints/.+$"},
        "createTime": TIME,
        "checkpointType": one_of("CHECKPOINT_TYPE_", CHECKPOINT_TYPES),
    },
    {
        "updateTime": TIME,
        "promotable": BOOLEAN,
        "checkpointName": STRING,
        "restoreReference": STRING,
        "availability": each(AVAILABILITY),
    },
)
MODEL = obj(
    {"name": name_of("models"), "state": one_of("", ("STATE_UNSPECIFIED", "UPLOADING", "READY")), "kind": STRING},
    {
        "createTime": TIME,
        "contextLength": INTEGER,
        "trainingContextLength": INTEGER,
        "huggingFaceUrl": STRING,
        "supervisedLoraTunable": BOOLEAN,
        "supportsServerless": BOOLEAN,
        "baseModelDetails": obj(
            {"moe": BOOLEAN}, {"modelType": STRING, "parameterCount": {"type": ["string", "integer"]}}
        ),
        "peftDetails": obj({"baseModel": STRING, "r": INTEGER, "targetModules": each(STRING)}),
    },
)
DEPLOYMENT = obj(
    {"name": name_of("deployments"), "state": STRING, "baseModel": STRING},
    {"createTime": TIME, "replicaCount": INTEGER, **of(DeploymentSettings)},
)
DEPLOYED_MODEL = obj(
    {
        "name": name_of("deployedModels"),
        "model": name_of("models"),
        "deployment": name_of("deployments"),
        "default": BOOLEAN,
        "state": one_of("", ("STATE_UNSPECIFIED", "UNDEPLOYING", "DEPLOYING", "DEPLOYED", "UPDATING")),
    },
    {"displayName": STRING, "description": STRING, "createTime": TIME, "updateTime": TIME, "status": STATUS},
)
LEDGER = obj({"ledger": each(obj({"timestamp": TIME, "value": STRING}))})
QUOTA = obj({"name": name_of("quotas"), "value": STRING, "maxValue": STRING, "usage": INTEGER}, {"updateTime": TIME})
SERVED_MODEL = obj({"id": STRING, "object": STRING, "created": INTEGER, "owned_by": STRING}, {"kind": STRING})
SERVED_MODELS = obj({"object": STRING, "data": each(SERVED_MODEL)})
OPERATION = obj(
    {"name": name_of("operations"), "done": BOOLEAN}, {"metadata": {"type": "object"}, "error": {"type": "object"}}
)
SHAPE_VERSION = obj(
    {
        "name": name_of("trainingShapes"),
        "snapshot": obj(
            {"maxSupportedContextLength": INTEGER, "trainerMode": STRING},
            {
                "trainerImageTag": STRING,
                "nodeCount": INTEGER,
                "deploymentShapeVersion": STRING,
                "acceleratorType": STRING,
                "acceleratorCount": INTEGER,
                "baseModelWeightPrecision": STRING,
                "trainerShardingScheme": obj({}, {"pipelineParallelism": INTEGER}),
            },
        ),
    }
)
SHAPE_VERSION["properties"]["name"] = {
    "type": "string",
    "pattern": f"^accounts/{ID}/trainingShapes/{ID}/versions/{ID}$",
}
LINKS = obj({"filenameToSignedUrls": {"type": "object", "additionalProperties": STRING}})
WARNINGS = obj({"warnings": each(STRING)})
PROMOTED: Schema = {
    "type": "object",
    "anyOf": [obj({"model": MODEL}), obj({"operation": OPERATION})],
}
ACCEPTED = obj({"request_id": {"type": "string", "minLength": 1}}, {"model_id": STRING})
HOT_LOAD = obj({"identity": STRING, "status": {"const": "accepted"}})
HEALTH = obj({"status": STRING}, {"sampler": STRING})
SESSION = obj({"type": {"const": "create_session"}, "session_id": {"type": "string", "minLength": 1}})
ROUTE = obj({"type": STRING, "name": STRING})
FAILED = obj({"error": STRING, "category": one_of("", ("user", "server", "unknown"))})
CREATED_MODEL = obj({"model_id": {"type": "string", "minLength": 1}}, {"comms": one_of("", ("v1", "v2"))})
INFO = obj(
    {"model_data": obj({"arch": STRING, "model_name": STRING, "tokenizer_id": STRING}), "model_id": STRING},
    {"is_lora": BOOLEAN, "lora_rank": INTEGER, "model_name": STRING},
)
METRICS: Schema = {"type": "object", "patternProperties": {"^[^:]+:[^:]+$": NUMBER}, "additionalProperties": False}
TENSOR: Schema = {
    **obj({"data": each(NUMBER), "dtype": one_of("", ("float32", "int64")), "shape": each(INTEGER)}),
    "additionalProperties": False,
}
STEP = obj(
    {"loss_fn_outputs": each({"type": "object", "additionalProperties": TENSOR}), "metrics": METRICS},
    {"loss_fn_output_type": STRING},
)
UPDATE = obj({}, {"metrics": {"type": "object", "additionalProperties": NUMBER}})
SAVED = obj({"path": {"type": "string", "minLength": 1}}, {"type": STRING})
COMPLETION = obj({"choices": each({"type": "object"})}, {"id": STRING, "model": STRING, "usage": {"type": "object"}})
