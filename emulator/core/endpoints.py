"""Every endpoint of the emulator, one row each: its name, method, path, and who may call it.

The journal and the switches select by these names, the routes of `emulator.http` are made from these rows (and add the
body, the answer and the handler), and the OpenAPI document and the table in docs/wire.md are written from both.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from emulator.core import managed_rows
from emulator.core.errors import SERVERLESS


class Callers(StrEnum):
    """Names those who may call an endpoint; the value is what docs/wire.md prints."""

    ANYONE = "anyone"
    LINK = "whoever has the signed link"
    KEY = "any key"
    INFERENCE = "any key, also one for inference only"
    ACCOUNT = "the account in the path; GET also reads `fireworks` and `-`"
    CONTROL = "any key (control API)"


@dataclass(frozen=True)
class Endpoint:
    """A row. Several paths may share a `name`; `operation` (the OpenAPI operation id) is each row's own."""

    operation: str
    method: str
    path: str
    callers: Callers
    name: str

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the path's parameters, in order."""
        return tuple(_PARAMETER.findall(self.path))


DEDICATED = "/training/v1/rlorTrainerJobs/{account}/{job}/api/v1/"
POOLED = f"{SERVERLESS}api/v1/"
NATIVE = "/tinker/api/v1/"
"""Where programs of tinker's own client find all that it asks for, with sampling (TINKER_BASE_URL=.../tinker)."""
_PARAMETER = re.compile(r"{(\w+)(?::path)?}")
_SELECTORS = {"job": "job", "owner": "job", "session": "job", "deployment": "deployment", "checkpoint": "checkpoint"}
"""Path parameters by which a switch selects, and the selector's name: a session counts as a job."""


def _rows(prefix: str, callers: Callers, table: str) -> tuple[Endpoint, ...]:
    """Read lines of `METHOD /path operation [name]`; the name is the operation's where it has none of its own."""
    lines = (line.split() for line in table.strip().splitlines())
    return tuple(
        Endpoint(operation, method, prefix + path.removeprefix("."), callers, (name or [operation])[0])
        for method, path, operation, *name in lines
    )


def _verbs(prefix: str, callers: Callers, before: str) -> tuple[Endpoint, ...]:
    """One flavour of the trainer gateway; both name their endpoints by the verb, which is the end of the path."""
    lines = (line.split() for line in _VERBS.strip().splitlines())
    return tuple(
        Endpoint(before + verb.replace("/", "_"), method, prefix + verb, callers, verb) for method, verb in lines
    )


_VERBS = """
    GET  healthz
    GET  get_server_capabilities
    GET  list_checkpoints
    POST client/config
    POST auth/token
    POST create_session
    POST session_heartbeat
    POST telemetry
    POST create_model
    POST get_info
    POST unload_model
    POST weights_info
    POST retrieve_future
    POST forward
    POST forward_backward
    POST optim_step
    POST save_weights
    POST save_weights_for_sampler
    POST load_weights
    POST load_adapter
    POST create_sampling_session
    POST create_sampling_route
    POST sample
    POST asample
    POST weight_sync
"""

ENDPOINTS: tuple[Endpoint, ...] = (
    *_rows("/v1/accounts", Callers.KEY, """
        GET    .                                                        list_accounts
        GET    /{account}                                               get_account
    """),
    *_rows("/v1/accounts/{account}", Callers.ACCOUNT, """
        POST   /rlorTrainerJobs                                         create_job
        GET    /rlorTrainerJobs                                         list_jobs
        GET    /rlorTrainerJobs/{job}                                   get_job
        DELETE /rlorTrainerJobs/{job}                                   delete_job
        POST   /rlorTrainerJobs/{job}:resume                            resume_job
        POST   /rlorTrainerJobs/{job}:cancel                            cancel_job
        GET    /rlorTrainerJobs/{job}/publicLogs                        get_public_logs
        POST   /rlorTrainerJobs/{owner}/checkpoints/{checkpoint}:sync   sync_checkpoint
        GET    /rlorTrainerJobs/{owner}/checkpoints                     list_job_checkpoints       list_checkpoints
        GET    /trainingSessions/{owner}/checkpoints                    list_session_checkpoints   list_checkpoints
        GET    /supervisedFineTuningJobs/{owner}/checkpoints            list_sft_job_checkpoints   list_checkpoints
        GET    /dpoJobs/{owner}/checkpoints                             list_dpo_job_checkpoints   list_checkpoints
        POST   /checkpoints/{checkpoint}:promote                        promote
        POST   /rlorTrainerJobs/{owner}/checkpoints/{checkpoint}:promote            promote_of_job      promote
        POST   /trainingSessions/{owner}/checkpoints/{checkpoint}:promote           promote_of_session  promote
        POST   /supervisedFineTuningJobs/{owner}/checkpoints/{checkpoint}:promote   promote_of_sft_job  promote
        POST   /dpoJobs/{owner}/checkpoints/{checkpoint}:promote        promote_of_dpo_job         promote
        GET    /trainingSessions                                        list_sessions
        POST   /trainingSessions/{session}:logMetrics                   log_session_metrics
        GET    /trainingSessions/{session}/trainingCurves               list_session_curves
        GET    /trainingSessions/{session}                              get_session
        DELETE /trainingSessions/{session}                              delete_session
        POST   /trainingSessions/{session}:loadState                    load_session_state
        GET    /trainingRuns                                            list_training_runs
        GET    /trainingRuns/{run}                                      get_training_run
        GET    /operations/{operation}                                  get_operation
        GET    /billing/summary                                         get_billing_summary
        GET    /billingUsage                                            get_account_usage
        POST   /usageCosts:query                                        query_usage_costs
        GET    /quotas                                                  list_quotas
        GET    /quotas/{quota}                                          get_quota
        GET    /serverlessModels                                        list_serverless_models
        GET    /models                                                  list_models
        GET    /models/{model}                                          get_model
        GET    /models/{model}:getDownloadEndpoint                      get_download_endpoint      get_model
        POST   /models                                                  create_uploaded_model
        POST   /models/{model}:getUploadEndpoint                        get_upload_endpoint
        GET    /models/{model}:validateUpload                           validate_upload
        PATCH  /models/{model}                                          update_model
        DELETE /models/{model}                                          delete_model
        GET    /trainingShapes                                          list_training_shapes
        GET    /trainingShapes/{shape}                                  get_training_shape
        GET    /trainingShapes/{shape}/versions                         list_training_shape_versions  get_training_shape
        GET    /trainingShapes/{shape}/versions/{version}               get_training_shape_version    get_training_shape
        GET    /deploymentShapes                                        list_deployment_shapes
        GET    /deploymentShapes/{shape}                                get_deployment_shape
        GET    /deploymentShapes/{shape}/versions                       list_deployment_shape_versions
        GET    /deploymentShapes/{shape}/versions/{version}             get_deployment_shape_version
        POST   /deployments                                             create_deployment
        GET    /deployments                                             list_deployments
        GET    /deployments/{deployment}                                get_deployment
        PATCH  /deployments/{deployment}                                patch_deployment
        PATCH  /deployments/{deployment}:scale                          scale_deployment           patch_deployment
        POST   /deployments/{deployment}:undelete                       undelete_deployment
        DELETE /deployments/{deployment}                                delete_deployment
        GET    /deployments/{deployment}:metrics                        get_deployment_metrics
        GET    /deployments/{deployment}/shards                         list_deployment_shards
        GET    /deployments/{deployment}/terminationMessage             get_termination_message
        GET    /deployments/{deployment}/ledger                         get_ledger
        DELETE /deployments/{deployment}/ledger                         reset_ledger
        GET    /deployedModels                                          list_deployed_models
        POST   /deployedModels                                          create_deployed_model
        GET    /deployedModels/{deployed}                               get_deployed_model
        PATCH  /deployedModels/{deployed}                               update_deployed_model
        DELETE /deployedModels/{deployed}                               delete_deployed_model
    """),
    *_rows("/v1/accounts/{account}", Callers.ACCOUNT, managed_rows.ROWS),
    *_rows("/v1/accounts/{account}", Callers.LINK, """
        GET    /models/{model}/files/{file}                             download_model_file
        PUT    /models/{model}/files/{file}                             upload_model_file
        GET    /rlorTrainerJobs/{job}/logs.txt                          download_public_logs
    """),
    *_verbs(DEDICATED, Callers.ACCOUNT, ""),
    *_verbs(POOLED, Callers.KEY, "serverless_"),
    *_rows(NATIVE, Callers.KEY, """
        GET    healthz                                              tinker_healthz            healthz
        GET    get_server_capabilities                              tinker_capabilities       get_server_capabilities
        POST   client/config                                        tinker_config             client/config
        POST   client/dynamic_config                                tinker_dynamic_config     client/config
        POST   auth/token                                           tinker_token              auth/token
        POST   create_session                                       tinker_create_session     create_session
        POST   session_heartbeat                                    tinker_heartbeat          session_heartbeat
        POST   telemetry                                            tinker_telemetry          telemetry
        POST   create_model                                         tinker_create_model       create_model
        POST   get_info                                             tinker_get_info           get_info
        POST   unload_model                                         tinker_unload_model       unload_model
        POST   weights_info                                         tinker_weights_info       weights_info
        POST   retrieve_future                                      tinker_retrieve_future    retrieve_future
        POST   cancel_future                                        tinker_cancel_future      cancel_future
        POST   forward                                              tinker_forward            forward
        POST   forward_backward                                     tinker_forward_backward   forward_backward
        POST   optim_step                                           tinker_optim_step         optim_step
        POST   save_weights                                         tinker_save_weights       save_weights
        POST   save_weights_for_sampler                             tinker_save_sampler       save_weights_for_sampler
        POST   save_weights_external                                tinker_save_external      save_weights_external
        POST   load_weights                                         tinker_load_weights       load_weights
        POST   create_sampling_session                              tinker_sampling_session   create_sampling_session
        POST   asample                                              tinker_asample            asample
        GET    training_runs                                        tinker_runs               list_runs
        GET    training_runs/{run}                                  tinker_run                get_run
        GET    training_runs/{run}/checkpoints                      tinker_run_checkpoints    list_checkpoints
        DELETE training_runs/{run}/checkpoints/{form}/{name}        tinker_delete_checkpoint  delete_checkpoint
        PUT    training_runs/{run}/checkpoints/{form}/{name}/ttl    tinker_keep_checkpoint    keep_checkpoint
        GET    training_runs/{run}/checkpoints/{form}/{name}/external_weights_urls tinker_external_urls external_urls
        GET    training_runs/{run}/checkpoints/{form}/{name}/archive tinker_archive           checkpoint_archive
        GET    checkpoints                                          tinker_checkpoints        list_checkpoints
        GET    sessions                                             tinker_sessions           list_sessions
        GET    sessions/{client}                                    tinker_session            get_session
        POST   sessions/{client}/finish                             tinker_finish_session     finish_session
        GET    samplers/{sampler}                                   tinker_sampler            get_sampler
    """),
    *_rows(NATIVE, Callers.LINK, """
        GET    checkpoint_files/{account}/{run}/{form}/{name}/{file} tinker_checkpoint_file   download_checkpoint_file
    """),
    *_rows("", Callers.INFERENCE, """
        POST   /inference/v1/completions                                completions
        POST   /v1/completions                                          completions_bare           completions
        POST   /inference/v1/chat/completions                           chat_completions
        POST   /inference/v1/messages                                   messages
        POST   /v1/messages                                             messages_bare              messages
        POST   /inference/v1/responses                                  responses
        POST   /inference/v1/messages/count_tokens                      count_tokens
        POST   /v1/messages/count_tokens                                count_tokens_bare          count_tokens
        POST   /inference/v1/responses/input_tokens                     input_tokens
        POST   /inference/v1/embeddings                                 embeddings
        GET    /inference/v1/models                                     list_served_models
        GET    /inference/v1/models/accounts/{account}/models/{model}    get_served_model
        POST   /v1/chat/completions                                     chat_completions_bare      chat_completions
    """),
    *_rows("", Callers.KEY, """
        POST   /training/v1/serverless/inference/v1/completions         serverless_completions     completions
        POST   /hot_load/v1/models/hot_load                             hot_load
        GET    /hot_load/v1/models/hot_load                             hot_load_status
        POST   /hot_load/v1/models/hot_load/hint                        hot_load_hint
    """),
    *_rows("", Callers.ANYONE, """
        GET    /healthz                                                 healthy
        GET    /readyz                                                  ready
    """),
    *_rows("/_ftsim", Callers.CONTROL, """
        GET    /state                                                   read_state
        GET    /rows                                                    read_rows
        GET    /curves                                                  read_curves
        POST   /metrics                                                 log_metrics
        POST   /reset                                                   reset
        POST   /seed                                                    set_seed
        POST   /clock                                                   advance_clock
        GET    /quirks                                                  list_quirks
        POST   /quirks                                                  set_quirk
        DELETE /quirks                                                  clear_quirks
        POST   /jobs/{job}:preempt                                      preempt_job
        POST   /programs/{program}:end                                  end_program
        POST   /import                                                  import_rows
        GET    /deployments/{deployment}/snapshots                      list_snapshots
        GET    /journal                                                 read_journal
        GET    /snapshot                                                take_snapshot
        PUT    /snapshot                                                restore_snapshot
        POST   /console                                                 open_console
        GET    /openapi.json                                            read_openapi
    """),
)  # fmt: skip
"""All rows. Where two paths could both be meant, the one with the verb (`:cancel`) is read first."""

NAMES = tuple(dict.fromkeys(row.name for row in ENDPOINTS if row.callers not in (Callers.ANYONE, Callers.CONTROL)))
"""Every name that a switch may select: health and the control API are never struck by one."""

_UNLISTED = re.compile(r"(GET|POST|PUT|PATCH|DELETE) (/.*)")
_GATEWAY = re.compile(
    r"/training/v1/(?:rlorTrainerJobs/(?P<account>[^/]+)/(?P<job>[^/]+)|serverless)/api/v1/(?P<verb>.+)"
)


@cache
def row(operation: str) -> Endpoint:
    """The row of an operation id; raises KeyError."""
    return {one.operation: one for one in ENDPOINTS}[operation]


def is_known(name: str) -> bool:
    """Say whether a switch may select by this: a name of the list, or `GET /path` of what has none."""
    return name in NAMES or _UNLISTED.fullmatch(name) is not None


def selectors(name: str) -> Mapping[str, str]:
    """Selectors of a switch that names an endpoint: `GET /path` means the endpoint's name and the path's ids."""
    if (match := _UNLISTED.fullmatch(name)) is None:
        return {"endpoint": name}
    found, ids = endpoint(match[1], match[2])
    return {"endpoint": found, **ids}


def endpoint(method: str, path: str) -> tuple[str, Mapping[str, str]]:
    """The endpoint's name and what the path selects (job, deployment, checkpoint); an unlisted path names itself."""
    if match := _GATEWAY.fullmatch(path):
        return match["verb"], {"job": match["job"]} if match["job"] else {}
    for pattern, one in _patterns().get(method, ()):
        if match := pattern.fullmatch(path):
            return one.name, {_SELECTORS[key]: value for key, value in match.groupdict().items()}
    return f"{method} {path}", {}


def pattern(path: str) -> re.Pattern[str]:
    """A pattern for a row's path; its groups are the parameters that select."""
    return re.compile("".join(_parts(path)))


def _parts(path: str) -> Iterator[str]:
    at = 0
    for found in _PARAMETER.finditer(path):
        yield re.escape(path[at : found.start()])
        at = found.end()
        # An id before a verb may hold a colon (older planes put one between run and checkpoint), the last one may not,
        # unless it names a file: there a colon stands for a folder.
        colons = path[at : at + 1] in (":", "/") or path.startswith(NATIVE) or found[1] == "file"
        one = "[^/]+" if colons else "[^/:]+"
        yield f"(?P<{found[1]}>{one})" if found[1] in _SELECTORS else one
    yield re.escape(path[at:])


@cache
def _patterns() -> Mapping[str, tuple[tuple[re.Pattern[str], Endpoint], ...]]:
    """Patterns by method, without the gateway's verbs, which `endpoint` reads off the path."""
    found: dict[str, list[tuple[re.Pattern[str], Endpoint]]] = {}
    for one in ENDPOINTS:
        if not one.path.startswith((DEDICATED, POOLED)):
            found.setdefault(one.method, []).append((pattern(one.path), one))
    return {method: tuple(rows) for method, rows in found.items()}
