"""Names of endpoints, for quirk selectors and the journal: `promote`, `list_checkpoints`, `forward_backward`, ..."""

import re
from collections.abc import Mapping

_GATEWAY = re.compile(
    r"/training/v1/(?:rlorTrainerJobs/(?P<account>[^/]+)/(?P<job>[^/]+)|serverless)/api/v1/(?P<verb>.+)"
)
_VERBS = (
    "healthz", "get_server_capabilities", "list_checkpoints", "client/config", "auth/token", "create_session",
    "session_heartbeat", "telemetry", "create_model", "get_info", "unload_model", "weights_info", "retrieve_future",
    "forward", "forward_backward", "optim_step", "save_weights", "save_weights_for_sampler", "load_weights",
    "load_adapter", "create_sampling_session", "create_sampling_route", "sample", "asample", "weight_sync",
)  # fmt: skip
_UNLISTED = re.compile(r"(GET|POST|PUT|PATCH|DELETE) /.*")
_TABLE = [
    (method, re.compile(pattern), name)
    for method, pattern, name in (
        ("POST", r"/v1/accounts/[^/]+/rlorTrainerJobs", "create_job"),
        ("GET", r"/v1/accounts/[^/]+/rlorTrainerJobs", "list_jobs"),
        ("GET", r"/v1/accounts/[^/]+/rlorTrainerJobs/(?P<job>[^/:]+)", "get_job"),
        ("DELETE", r"/v1/accounts/[^/]+/rlorTrainerJobs/(?P<job>[^/:]+)", "delete_job"),
        ("POST", r"/v1/accounts/[^/]+/rlorTrainerJobs/(?P<job>[^/:]+):resume", "resume_job"),
        ("POST", r"/v1/accounts/[^/]+/rlorTrainerJobs/(?P<job>[^/:]+):cancel", "cancel_job"),
        (
            "GET",
            r"/v1/accounts/[^/]+/(?:rlorTrainerJobs|trainingSessions)/(?P<job>[^/:]+)/checkpoints",
            "list_checkpoints",
        ),
        ("POST", r"/v1/accounts/.+/checkpoints/(?P<checkpoint>[^/]+):promote", "promote"),
        ("GET", r"/v1/accounts/[^/]+/trainingSessions", "list_sessions"),
        ("GET", r"/v1/accounts/[^/]+/trainingSessions/(?P<job>[^/:]+)", "get_session"),
        ("DELETE", r"/v1/accounts/[^/]+/trainingSessions/(?P<job>[^/:]+)", "delete_session"),
        ("GET", r"/v1/accounts/[^/]+/operations/[^/]+", "get_operation"),
        ("GET", r"/v1/accounts", "list_accounts"),
        ("GET", r"/v1/accounts/[^/]+/models/[^/]+", "get_model"),
        ("GET", r"/v1/accounts/[^/]+/models", "list_models"),
        ("GET", r"/v1/accounts/[^/]+/trainingShapes/.+", "get_training_shape"),
        ("POST", r"/v1/accounts/[^/]+/deployments", "create_deployment"),
        ("GET", r"/v1/accounts/[^/]+/deployments/(?P<deployment>[^/:]+)", "get_deployment"),
        ("PATCH", r"/v1/accounts/[^/]+/deployments/(?P<deployment>[^/:]+).*", "patch_deployment"),
        ("DELETE", r"/v1/accounts/[^/]+/deployments/(?P<deployment>[^/:]+)", "delete_deployment"),
        ("POST", r"(?:(?:/training/v1/serverless)?/inference)?/v1/completions", "completions"),
        ("POST", r"(?:/inference)?/v1/chat/completions", "chat_completions"),
        ("POST", r"/hot_load/.+", "hot_load"),
        ("GET", r"/hot_load/.+", "hot_load_status"),
    )
]
NAMES = tuple(dict.fromkeys([*(name for _, _, name in _TABLE), *_VERBS]))
"""Every endpoint that has a name: control plane, inference, hot-load, then the verbs of a trainer (WIRE 2)."""


def is_known(name: str) -> bool:
    """Whether `endpoint` may answer this: a name of the list, or `GET /path` of what has none."""
    return name in NAMES or _UNLISTED.fullmatch(name) is not None


def endpoint(method: str, path: str) -> tuple[str, Mapping[str, str]]:
    """The endpoint's name and what the path selects (job, deployment, checkpoint); an unlisted path names itself."""
    if match := _GATEWAY.fullmatch(path):
        return match["verb"], {"job": match["job"]} if match["job"] else {}
    for wanted, pattern, name in _TABLE:
        if wanted == method and (match := pattern.fullmatch(path)):
            return name, {key: value for key, value in match.groupdict().items() if value}
    return f"{method} {path}", {}
