"""The emulator's OpenAPI document: every route there is, and what it answers."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from starlette.routing import BaseRoute, Route

from emulator.core.errors import SERVERLESS
from emulator.http import schemas
from emulator.http.schemas import EMPTY, STRING, Schema, each, obj, page

_PARAMETER = re.compile(r"{(\w+)(?::\w+)?}")
_ACCOUNT = "/v1/accounts/{account}"
_JOB = f"{_ACCOUNT}/rlorTrainerJobs"
_DEPLOYMENT = f"{_ACCOUNT}/deployments"
_SESSION = f"{_ACCOUNT}/trainingSessions"
_VERB = "/api/v1/{verb:path}"
_OWNERS = ("rlorTrainerJobs", "trainingSessions", "supervisedFineTuningJobs", "dpoJobs")
_LINKS = obj({"filenameToSignedUrls": {"type": "object", "additionalProperties": STRING}})

_CONFIG = obj({}, {"baseModel": STRING, "loraRank": schemas.INTEGER, "learningRate": schemas.NUMBER,
                   "maxContextLength": schemas.INTEGER, "warmStartFrom": STRING})  # fmt: skip
_JOB_BODY = obj({}, {"trainingConfig": _CONFIG, "displayName": STRING, "forwardOnly": schemas.BOOLEAN,
                     "inactivityTimeout": STRING})  # fmt: skip
_DEPLOYMENT_BODY = obj({}, {"baseModel": STRING, "description": STRING, "minReplicaCount": schemas.INTEGER,
                            "maxReplicaCount": schemas.INTEGER, "enableHotLoad": schemas.BOOLEAN,
                            "hotLoadTrainerJob": STRING, "deploymentShape": STRING})  # fmt: skip
_PROMOTE_BODY = obj({}, {"output_model": STRING, "base_model": STRING, "trainer_job_id": STRING,
                         "async_promotion": schemas.BOOLEAN})  # fmt: skip
_NUMBERED = obj({"model_id": STRING, "seq_id": schemas.INTEGER})
_BATCH = obj({}, {"data": each({"type": "object"}), "loss_fn": STRING})
_PATH_BODY = obj({"model_id": STRING, "seq_id": schemas.INTEGER, "path": STRING},
                 {"optimizer": schemas.BOOLEAN, "checkpoint_type": STRING})  # fmt: skip
_COMPLETION_BODY = obj({"model": STRING, "prompt": {}}, {"max_tokens": schemas.INTEGER, "stream": schemas.BOOLEAN,
                       "temperature": schemas.NUMBER, "n": schemas.INTEGER, "seed": schemas.INTEGER})  # fmt: skip
_CHAT_BODY = obj({"model": STRING, "messages": each({"type": "object"})},
                 {"max_tokens": schemas.INTEGER, "stream": schemas.BOOLEAN, "temperature": schemas.NUMBER})  # fmt: skip

_ANSWERS: Mapping[tuple[str, str], Schema] = {
    ("GET", "/v1/accounts"): page("accounts", schemas.ACCOUNT),
    ("GET", _ACCOUNT): schemas.ACCOUNT,
    ("GET", _JOB): page("rlorTrainerJobs", schemas.JOB),
    ("POST", _JOB): schemas.JOB,
    ("GET", f"{_JOB}/{{job}}"): schemas.JOB,
    ("POST", f"{_JOB}/{{job}}:resume"): schemas.JOB,
    ("GET", _SESSION): page("trainingSessions", schemas.TRAINING_SESSION),
    ("GET", f"{_SESSION}/{{session}}"): schemas.TRAINING_SESSION,
    ("GET", f"{_ACCOUNT}/models"): page("models", schemas.MODEL),
    ("GET", f"{_ACCOUNT}/models/{{model}}"): schemas.MODEL,
    ("PATCH", f"{_ACCOUNT}/models/{{model}}"): schemas.MODEL,
    ("GET", f"{_ACCOUNT}/models/{{model}}:getDownloadEndpoint"): _LINKS,
    ("GET", f"{_ACCOUNT}/operations/{{operation}}"): schemas.OPERATION,
    ("GET", _DEPLOYMENT): page("deployments", schemas.DEPLOYMENT),
    ("POST", _DEPLOYMENT): schemas.DEPLOYMENT,
    ("GET", f"{_DEPLOYMENT}/{{deployment}}"): schemas.DEPLOYMENT,
    ("PATCH", f"{_DEPLOYMENT}/{{deployment}}"): schemas.DEPLOYMENT,
    ("PATCH", f"{_DEPLOYMENT}/{{deployment}}:scale"): schemas.DEPLOYMENT,
    ("POST", f"{_DEPLOYMENT}/{{deployment}}:undelete"): schemas.DEPLOYMENT,
    ("GET", f"{_ACCOUNT}/trainingShapes/{{shape}}/versions"): page("trainingShapeVersions", schemas.SHAPE_VERSION),
    ("GET", f"{_ACCOUNT}/trainingShapes/{{shape}}/versions/{{version}}"): schemas.SHAPE_VERSION,
    ("POST", f"{_ACCOUNT}/checkpoints/{{checkpoint}}:promote"): schemas.PROMOTED,
    **{
        ("POST", f"{_ACCOUNT}/{owner}/{{owner}}/checkpoints/{{checkpoint}}:promote"): schemas.PROMOTED
        for owner in _OWNERS
    },
    **{
        ("GET", f"{_ACCOUNT}/{owner}/{{owner}}/checkpoints"): page(
            {"trainingSessions": "trainingSessionCheckpoints"}.get(owner, "checkpoints"), schemas.ROW
        )
        for owner in _OWNERS
    },
}
_BODIES: Mapping[tuple[str, str], Schema] = {
    ("POST", _JOB): _JOB_BODY,
    ("POST", _DEPLOYMENT): _DEPLOYMENT_BODY,
    ("PATCH", f"{_DEPLOYMENT}/{{deployment}}"): _DEPLOYMENT_BODY,
    ("PATCH", f"{_DEPLOYMENT}/{{deployment}}:scale"): obj({"replicaCount": schemas.INTEGER}),
    ("PATCH", f"{_ACCOUNT}/models/{{model}}"): obj({}, {"displayName": STRING, "description": STRING}),
    ("POST", f"{_ACCOUNT}/checkpoints/{{checkpoint}}:promote"): _PROMOTE_BODY,
    **{
        ("POST", f"{_ACCOUNT}/{owner}/{{owner}}/checkpoints/{{checkpoint}}:promote"): _PROMOTE_BODY for owner in _OWNERS
    },
    **{
        ("POST", f"{prefix}/v1/completions"): _COMPLETION_BODY
        for prefix in ("", "/inference", f"{SERVERLESS}inference")
    },
    ("POST", f"{SERVERLESS}api/v1/create_sampling_route"): obj({}, {"base_model": STRING, "training_run": STRING}),
    **{("POST", f"{prefix}/v1/chat/completions"): _CHAT_BODY for prefix in ("", "/inference")},
    ("POST", "/_ftsim/clock"): obj({"advance_s": {"type": "number", "minimum": 0}}),
    ("POST", "/_ftsim/seed"): obj({"seed": schemas.INTEGER}),
    ("POST", "/_ftsim/quirks"): obj({"name": STRING, "value": {}}, {"times": schemas.INTEGER}),
}
_VERBS: Mapping[tuple[str, str], tuple[Schema, Schema | None]] = {
    ("GET", "healthz"): (obj({"status": STRING}), None),
    ("GET", "get_server_capabilities"): (obj({"supported_models": each(EMPTY)}), None),
    ("GET", "list_checkpoints"): (obj({"checkpoints": each(STRING)}), None),
    ("POST", "client/config"): (EMPTY, EMPTY),
    ("POST", "auth/token"): (obj({"jwt": STRING}), EMPTY),
    ("POST", "create_session"): (schemas.SESSION, EMPTY),
    ("POST", "session_heartbeat"): (obj({"type": STRING}), obj({"session_id": STRING})),
    ("POST", "telemetry"): (obj({"status": {"const": "accepted"}}), EMPTY),
    ("POST", "create_model"): (schemas.ACCEPTED, obj({"session_id": STRING, "model_seq_id": schemas.INTEGER},
                                                     {"base_model": STRING, "lora_config": EMPTY})),
    ("POST", "get_info"): (schemas.INFO, obj({"model_id": STRING})),
    ("POST", "unload_model"): (schemas.ACCEPTED, obj({"model_id": STRING})),
    ("POST", "weights_info"): (EMPTY, obj({"tinker_path": STRING})),
    ("POST", "retrieve_future"): (EMPTY, obj({"request_id": STRING})),
    ("POST", "forward"): (schemas.ACCEPTED, obj({"model_id": STRING, "seq_id": schemas.INTEGER,
                                                 "forward_input": _BATCH})),
    ("POST", "forward_backward"): (schemas.ACCEPTED, obj({"model_id": STRING, "seq_id": schemas.INTEGER,
                                                          "forward_backward_input": _BATCH})),
    ("POST", "optim_step"): (schemas.ACCEPTED, _NUMBERED),
    ("POST", "save_weights"): (schemas.ACCEPTED, _PATH_BODY),
    ("POST", "save_weights_for_sampler"): (schemas.ACCEPTED, _PATH_BODY),
    ("POST", "load_weights"): (schemas.ACCEPTED, _PATH_BODY),
    ("POST", "load_adapter"): (schemas.ACCEPTED, obj({"model_id": STRING, "adapter_path": STRING})),
}  # fmt: skip
_OTHER_MEDIA = {"completions": "text/event-stream", "file": "application/octet-stream"}


def document(routes: Iterable[BaseRoute]) -> dict[str, Any]:
    """OpenAPI 3.1 of these routes; the trainer gateway's verbs are written out one by one."""
    paths: dict[str, dict[str, Any]] = {}
    for method, path in _operations(routes):
        verb = (method, path.rpartition("/api/v1/")[2])
        answer, body = _ANSWERS.get((method, path), EMPTY), _BODIES.get((method, path))
        if "/api/v1/" in path and verb in _VERBS:
            answer, body = _VERBS[verb]
        paths.setdefault(path, {})[method.lower()] = _operation(path, answer, body)
    return {
        "openapi": "3.1.0",
        "info": {"title": "ftsim", "version": "1", "description": "A local emulator of the Fireworks Training API."},
        "components": {"securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-Api-Key"}}},
        "security": [{"key": []}],
        "paths": paths,
    }


def _operations(routes: Iterable[BaseRoute]) -> Iterable[tuple[str, str]]:
    for route in routes:
        if not isinstance(route, Route) or route.path == "/_ftsim/{path:path}":
            continue
        if route.path.endswith(_VERB):
            prefix = route.path.removesuffix("{verb:path}")
            yield from ((method, prefix + verb) for method, verb in _VERBS)
            continue
        for method in sorted((route.methods or set()) - {"HEAD"}):
            yield method, _PARAMETER.sub(r"{\1}", route.path)


def _operation(path: str, answer: Schema, body: Schema | None) -> dict[str, Any]:
    names = _PARAMETER.findall(path)
    other = next((media for part, media in _OTHER_MEDIA.items() if path.endswith(part) or f"{{{part}}}" in path), None)
    content: dict[str, Any] = {"application/json": {"schema": answer}}
    if other:
        content[other] = {}
    if path == "/_ftsim/snapshot":
        content["application/zip"] = {}
    if path == "/_ftsim/journal":
        content["application/x-ndjson"] = {}
    refused = schemas.GATEWAY_ERROR if path.startswith(SERVERLESS) else schemas.ERROR
    found: dict[str, Any] = {
        "parameters": [{"name": name, "in": "path", "required": True, "schema": STRING} for name in names],
        "responses": {
            "200": {"description": "done", "content": content},
            "default": {"description": "refused", "content": {"application/json": {"schema": refused}}},
        },
    }
    if body is not None:
        found["requestBody"] = {"content": {"application/json": {"schema": body}}}
    if path.endswith(_PAGED):
        found["parameters"] += [
            {"name": name, "in": "query", "schema": STRING} for name in ("pageSize", "pageToken", "filter")
        ]
    return found


_PAGED = ("/rlorTrainerJobs", "/trainingSessions", "/models", "/deployments", "/checkpoints", "/versions", "Shapes")
