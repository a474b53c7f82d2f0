"""/hot_load/v1/models/hot_load: start a load, show where every replica stands (WIRE 3.3; FAILURES E1 to E8)."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from emulator.core.errors import InvalidArgument
from emulator.core.names import Subject, split_resource
from emulator.http import schemas
from emulator.http.bodies import Ignored, SnakeBody, body
from emulator.http.declare import Endpoints
from emulator.http.web import Reply, caller, platform_of
from emulator.platform.deployments.plans import CHECKSUM, Incremental
from emulator.platform.deployments.prompt_caches import RESETS
from emulator.platform.platform import Platform
from emulator.quirks import deployments, inference
from emulator.state.entities import Deployment, Pod

router = Endpoints()
_FIELDS = {
    "identity": (str,),
    "reset_prompt_cache": (bool, str),
    "incremental_snapshot_metadata": (dict,),
    "validation": (dict,),
}
_METADATA = dict.fromkeys(("previous_snapshot_identity", "compression_format", "checksum_format"), (str,))
_VALIDATION = {"extra_fields_ignore": (list,)}


class Metadata(SnakeBody):
    """The snapshot that a delta builds on."""

    previous_snapshot_identity: str
    compression_format: str = "arc_v2"
    checksum_format: str = CHECKSUM


class Validation(SnakeBody):
    """Fields of the configuration that the snapshot alone may have, or the base model alone."""

    extra_fields_ignore: list[str] = Field(default_factory=list)


class Hint(SnakeBody):
    """Files that will be loaded; what a client writes into it is not known."""

    ignored: ClassVar[Ignored] = {"body": "files are on the replica's own disk: a hint makes nothing faster"}


class HotLoad(SnakeBody):
    """The snapshot to load. Unknown fields are refused."""

    identity: str
    incremental_snapshot_metadata: Metadata | None = None
    reset_prompt_cache: bool | str = Field(True, description="all, new_session, none or a boolean: true is all")
    validation: Validation | None = None


@router.serve("hot_load", answer=schemas.HOT_LOAD, body=HotLoad)
async def start(request: Request) -> Response:
    """Start to load a snapshot on every replica of a deployment."""
    platform = platform_of(request)
    deployment_id, base_model = _addressed(request)
    sent = _checked(await body(request), _FIELDS)
    subject = Subject(deployment=deployment_id)
    rule = platform.world.quirks.value(deployments.HOTLOAD_RESET_PROMPT_CACHE, subject)
    if rule == "reject" and "reset_prompt_cache" in sent:  # some servers have no such field (FAILURES E1)
        raise InvalidArgument("reset_prompt_cache: Extra inputs are not permitted")
    if "validation" in sent and platform.world.quirks.value(deployments.HOTLOAD_VALIDATION, subject) == "reject":
        raise InvalidArgument("validation: Extra inputs are not permitted")
    reset = _reset(sent.get("reset_prompt_cache", True), rule, said="reset_prompt_cache" in sent)
    ignore = _fields_to_ignore(sent.get("validation", {}))
    identity = sent.get("identity")
    if not identity:
        raise InvalidArgument("identity is required: the snapshot name that save_weights_for_sampler gave")
    if "/" in identity:
        raise InvalidArgument(f"identity {identity[:120]!r} must not contain a slash: it is one name in the bucket")
    await run_in_threadpool(
        platform.hotload.start,
        caller(request),
        deployment_id,
        base_model,
        identity,
        _incremental(sent),
        reset,
        ignore=ignore,
    )
    return Reply({"identity": identity, "status": "accepted"})


@router.serve("hot_load_status", answer=schemas.EMPTY)
async def status(request: Request) -> Response:
    """Show where every replica of a deployment stands."""
    platform = platform_of(request)
    deployment_id, base_model = _addressed(request)
    found = await run_in_threadpool(platform.hotload.status, caller(request), deployment_id, base_model)
    return Reply(report(platform, found))


@router.serve("hot_load_hint", body=Hint)
async def hint(request: Request) -> Response:
    """Take note of files that will be loaded: it never takes the place of the signal."""
    platform = platform_of(request)
    deployment_id, _ = _addressed(request)
    platform.deployments.get(caller(request), deployment_id)
    platform.ledger.check_there(deployment_id)
    await body(request)
    return Reply({})


def report(platform: Platform, deployment: Deployment) -> dict[str, Any]:
    """The status body, changed as the switches say."""
    quirks, subject = platform.world.quirks, deployment.subject
    shape = quirks.value(deployments.HOTLOAD_STATUS_SHAPE, subject)
    first = deployment.pods[0] if deployment.pods else None
    if shape == "legacy":  # an older shape, which tells of one replica (FAILURES E6)
        return {"current_snapshot_identity": first and first.current, "stage": first.stage if first else "pending"}
    pods = deployment.pods if shape != "empty" and platform.hotload.manager_ready(deployment) else []
    direct = quirks.value(inference.RDMA) == "on"
    replicas = [_replica(pod, adapters=shape == "adapters", direct=direct) for pod in pods]
    for replica in replicas:
        state = replica["loading_state"]
        if state["stage"] == "error" and quirks.value(deployments.HOTLOAD_ERROR_OMITS_TARGET, subject):
            del state["target_snapshot_identity"]
        if quirks.value(deployments.HOTLOAD_NULL_LOADING_STATE, subject):
            replica["loading_state"] = None
    if direct:  # those that take weights directly do not tell their distribution (FAILURES E34)
        return {"replicas": replicas}
    return {
        "replicas": replicas,
        "replica_distribution": {
            identity: sum(pod.current == identity for pod in pods)
            for identity in sorted({pod.current for pod in pods if pod.current})
        },
    }


def _replica(pod: Pod, *, adapters: bool, direct: bool) -> dict[str, Any]:
    loading: dict[str, Any] = {"stage": pod.stage, "target_snapshot_identity": pod.target}
    if pod.message:
        loading["error"] = pod.message
    if pod.stale_reads > 0:  # a replica shows the error of the load before this one (FAILURES E3)
        pod.stale_reads -= 1
        loading = {"stage": "error", "target_snapshot_identity": pod.stale_target, "error": "left by an earlier load"}
    loaded = [{"identity": pod.current, "status": "loaded"}] if pod.current and (pod.adapter or adapters) else []
    return {
        "identity": pod.identity,
        "readiness": pod.healthy,
        "current_snapshot_identity": None if adapters else pod.current,
        "loading_state": loading,
        "loaded_adapters": loaded,
        "supports_rdma_weight_sync": direct,
        "rdma_weight_sync_enabled": direct,
    }


def _addressed(request: Request) -> tuple[str, str]:
    """Deployment id and base model from the headers; raises InvalidArgument."""
    deployment, model = request.headers.get("fireworks-deployment", ""), request.headers.get("fireworks-model", "")
    if not deployment or not model:
        raise InvalidArgument("the headers fireworks-deployment and fireworks-model are required")
    account, deployment_id = split_resource(deployment, "deployments")
    if account != caller(request):
        raise InvalidArgument(f"{deployment[:200]} belongs to another account")
    return deployment_id, model


def _reset(value: bool | str, rule: str, *, said: bool) -> str:
    """Say which computed prompts the load makes void; raises InvalidArgument for a form that is not taken (E27)."""
    if said and (wanted := {"bool_only": bool, "string_only": str}.get(rule)) and type(value) is not wanted:
        raise InvalidArgument(f"reset_prompt_cache: Input should be a valid {wanted.__name__.replace('str', 'string')}")
    if isinstance(value, bool):
        return "all" if value else "none"
    if value not in RESETS:
        raise InvalidArgument(f"reset_prompt_cache is {value[:40]!r}: use one of {', '.join(RESETS)}, or a boolean")
    return value


def _fields_to_ignore(sent: dict[str, Any]) -> list[str]:
    """The fields that `validation` names; raises InvalidArgument unless it holds names of fields alone."""
    names: list[str] = _checked(sent, _VALIDATION).get("extra_fields_ignore", [])
    if not all(isinstance(name, str) for name in names):
        raise InvalidArgument("validation.extra_fields_ignore: expected names of fields")
    return names


def _incremental(sent: dict[str, Any]) -> Incremental | None:
    if not sent.get("incremental_snapshot_metadata"):
        return None
    plan = _checked(sent["incremental_snapshot_metadata"], _METADATA)
    if not plan.get("previous_snapshot_identity"):
        raise InvalidArgument("incremental_snapshot_metadata.previous_snapshot_identity is required")
    return Incremental(
        plan["previous_snapshot_identity"],
        plan.get("compression_format", "arc_v2"),
        plan.get("checksum_format", CHECKSUM),
    )


def _checked(sent: dict[str, Any], fields: Mapping[str, tuple[type, ...]]) -> dict[str, Any]:
    """The fields without nulls; unknown ones are refused (FAILURES E2), and so are wrong types."""
    for name, value in sent.items():
        if name not in fields:
            raise InvalidArgument(f"{name[:80]}: Extra inputs are not permitted")
        if value is not None and type(value) not in fields[name]:
            raise InvalidArgument(f"{name}: expected a {' or a '.join(kind.__name__ for kind in fields[name])}")
    return {name: value for name, value in sent.items() if value is not None}
