"""Resources as the vendor writes them: camelCase, RFC 3339, int64 as text (WIRE 1, 8)."""

from collections.abc import Sequence
from typing import Any

from pydantic.alias_generators import to_camel

from emulator.core.catalogue import ACCOUNTS
from emulator.core.clock import rfc3339
from emulator.core.settings import settings
from emulator.platform.models.facts import (
    BIRTH,
    SHARED_ACCOUNT,
    CatalogueModel,
    DeploymentShape,
    TrainingShape,
    versioned,
)
from emulator.platform.models.models import ADDON, BASE_KINDS, Models
from emulator.platform.platform import Platform
from emulator.state.deployed import DeployedModel
from emulator.state.entities import Job, Model, Operation, Session
from emulator.state.settings import TRAINING, JobSettings

_BORN = rfc3339(BIRTH)
_HUB = "https://huggingface.co"
_FLAGS = {
    "v2": "useTrainingV2",
    "rl": "rlTunable",
    "sl": "supervisedLoraTunable",
    "sf": "supervisedFullParameterTunable",
    "rll": "rlLoraTunable",
    "rlf": "rlFullParameterTunable",
}


class Shown:
    """The fields of an answer, or of an object in it, that a class declares with `emulator.core.settings`."""

    def __init__(self, cls: type, within: str = "") -> None:
        self._fields = [
            (one.name, to_camel(one.key), None if one.shown == "always" else one.default)
            for one in settings(cls).values()
            if one.within == within
        ]

    def of(self, entity: object) -> dict[str, Any]:
        """Those that an entity shows, by their names on the wire."""
        return {key: value for name, key, hidden in self._fields if (value := getattr(entity, name)) != hidden}


_JOB, _TRAINING = Shown(JobSettings), Shown(JobSettings, TRAINING)


def account(account_id: str) -> dict[str, Any]:
    return {
        "name": f"accounts/{account_id}",
        "displayName": account_id,
        "email": email(account_id),
        "state": "READY",
        "status": {"code": "OK", "message": ""},
        "accountType": "ENTERPRISE",
        "createTime": _BORN,
        "updateTime": _BORN,
    }


def _times(entity: Job | Session | Model) -> dict[str, str]:
    created = rfc3339(entity.created)
    same = entity.updated == entity.created
    return {"createTime": created, "updateTime": created if same else rfc3339(entity.updated)}


def email(account_id: str) -> str:
    """The address of an account, under which it also is shown to have created what it has."""
    return f"{account_id}@localhost"


def job(entity: Job) -> dict[str, Any]:
    """A trainer job; what the request said and the emulator has no use for is echoed."""
    body = {
        **entity.request,
        "name": entity.name,
        **_JOB.of(entity),
        "state": entity.state,
        **_times(entity),
        "status": {"code": entity.status_code, "message": entity.message},
        "trainingConfig": entity.config | _TRAINING.of(entity),
        "serviceMode": True,
        "hotLoadBucketUrl": entity.bucket_url,
    }
    if entity.message:
        body["statusMessage"] = entity.message
    if entity.deleted is not None:
        body["deleteTime"] = rfc3339(entity.deleted)
    return body


def session(entity: Session) -> dict[str, Any]:
    """A training session; it has a base model once a model was created on it."""
    body = {
        "name": entity.name,
        "displayName": "",
        "createdBy": email(entity.account),
        "state": entity.state,
        "referenceState": "TRAINING_SESSION_REFERENCE_STATE_UNSPECIFIED",
        "status": {"code": "OK", "message": entity.message},
        **_times(entity),
    }
    return body | ({"baseModel": entity.base_model} if entity.base_model else {})


def model(entity: Model, known: CatalogueModel | None = None, loaded: Sequence[DeployedModel] = ()) -> dict[str, Any]:
    """A model; an add-on has peftDetails, everything else baseModelDetails.

    `known` is what the catalogue says of it, or of the one that it descends from; `loaded` is where it stands.
    """
    base = entity.kind in BASE_KINDS
    body: dict[str, Any] = {
        "name": entity.name,
        "displayName": entity.display_name,
        "description": entity.description,
        "state": entity.state,
        "status": {"code": "OK", "message": ""},
        "kind": entity.kind,
        **_times(entity),
        "contextLength": entity.context_length,
        "supportsLora": base,
        "tunable": base,
        "public": entity.account in ACCOUNTS,
        "snapshotType": "FULL_SNAPSHOT",
        "baseModelDetails": {
            **({"modelType": entity.model_type} if entity.model_type else {}),
            **({"parameterCount": str(entity.parameter_count)} if entity.parameter_count else {}),
            "moe": entity.moe,
            "tunable": base,
            "checkpointFormat": "HUGGINGFACE",
        },
    }
    if entity.kind == ADDON:
        body["peftDetails"] = {
            "baseModel": entity.base_model,
            "r": entity.lora_rank,
            "targetModules": entity.target_modules,
        }
    elif known is not None:
        body |= _training_facts(entity, known)
    if entity.source_checkpoint:
        body["importedFrom"] = entity.source_checkpoint
    if loaded:
        body["deployedModelRefs"] = [_reference(one) for one in loaded]
    return body


def _reference(one: DeployedModel) -> dict[str, Any]:
    known = {"name": one.name, "deployment": one.deployment, "state": one.state}
    return {**known, "default": one.default, "public": False}


def _training_facts(entity: Model, known: CatalogueModel) -> dict[str, Any]:
    """The fields that clients read of a base model before they train it; unknown ones are left out."""
    facts: dict[str, Any] = {
        "trainingContextLength": known.training_context_length or known.context_length,
        "supportsServerless": known.serverless,
        **{name: flag in known.flags for flag, name in _FLAGS.items()},
    }
    if known.tokenizer and not entity.blob:
        facts["huggingFaceUrl"] = f"{_HUB}/{known.tokenizer}"
    return facts


def operation(entity: Operation, models: Models, style: str = "statusMessage") -> dict[str, Any]:
    """An operation; a done one holds its error or response, or neither where a quirk says so (FAILURES D9)."""
    done = entity.pending is None
    status = entity.metadata.get("statusMessage", "")
    metadata: dict[str, Any] = {"value": {"statusMessage": status}} if style == "value" else {style: status}
    body: dict[str, Any] = {"name": entity.name, "metadata": metadata, "done": done}
    if done and entity.error is not None:
        body["error"] = entity.error
    elif done and entity.response is not None:
        made = models.get(entity.response["model"])
        promoted = model(made, models.facts(made))
        body["response"] = {"@type": "type.googleapis.com/gateway.Model", **promoted}
    return body


def training_shape_version(shape: TrainingShape, version: str, platform: Platform) -> dict[str, Any]:
    """One version with the snapshot that clients read (WIRE 1.6)."""
    known = platform.catalogue.model(shape.base_model)
    deployment, latest = platform.catalogue.deployment_shape(shape.deployment_shape)
    snapshot = training_shape(shape) | {
        "deploymentShapeVersion": versioned(deployment, latest),
        "modelType": known.model_type if known else "",
        "parameterCount": str(known.parameter_count) if known else "0",
    }
    return _version(shape, version, snapshot)


def training_shape(shape: TrainingShape) -> dict[str, Any]:
    return {
        "name": shape.name,
        "baseModel": shape.base_model,
        "trainerMode": shape.trainer_mode,
        "trainerImageTag": "emulated",
        "deploymentImageTag": "emulated",
        "maxSupportedContextLength": shape.max_context_length,
        "nodeCount": shape.node_count,
        "acceleratorType": shape.accelerator_type,
        "acceleratorCount": shape.accelerator_count,
        "baseModelWeightPrecision": shape.weight_precision,
        "trainerShardingScheme": {"pipelineParallelism": shape.pipeline_parallelism},
        "createTime": _BORN,
        "updateTime": _BORN,
    }


def deployment_shape_version(shape: DeploymentShape, version: str, platform: Platform) -> dict[str, Any]:
    return _version(shape, version, deployment_shape(shape, platform))


def deployment_shape(shape: DeploymentShape, platform: Platform) -> dict[str, Any]:
    known = platform.catalogue.model(shape.base_model)
    return {
        "name": shape.name,
        "baseModel": shape.base_model,
        "modelType": known.model_type if known else "",
        "parameterCount": str(known.parameter_count) if known else "0",
        "acceleratorType": shape.accelerator_type,
        "acceleratorCount": shape.accelerator_count,
        "precision": shape.precision,
        "createTime": _BORN,
        "updateTime": _BORN,
    }


def _version(shape: TrainingShape | DeploymentShape, version: str, snapshot: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": versioned(shape, version),
        "createTime": _BORN,
        "validated": True,
        "latestValidated": version == shape.versions[-1],
        "public": shape.name.startswith(f"accounts/{SHARED_ACCOUNT}/"),
        "snapshot": snapshot,
    }
