"""The quirks of deployments: their states, hot-loading, inference."""

from emulator.quirks.engine import ACCOUNT, DEPLOYMENT, SNAPSHOT, Quirk

CREATE_S = Quirk(
    "deployments.create_s",
    DEPLOYMENT,
    0.0,
    "How long a new deployment stays in CREATING.",
    failures=("E21",),
)
CREATE_READS = Quirk(
    "deployments.create_reads",
    DEPLOYMENT,
    0,
    "Reads of a new deployment that still show CREATING.",
    failures=("E21",),
)
SETTLES_IN = Quirk(
    "deployments.settles_in",
    DEPLOYMENT,
    "READY",
    "The state a new deployment settles in.",
    failures=("E20",),
    choices=("READY", "FAILED"),
)
STUCK_CREATING = Quirk(
    "deployments.stuck_creating",
    DEPLOYMENT,
    False,
    "A new deployment serves and shows CREATING for ever.",
    failures=("E21",),
)
ROLL_S = Quirk(
    "deployments.roll_s",
    DEPLOYMENT,
    0.0,
    "How long old replicas still answer after a re-attach.",
    failures=("E17", "E36"),
)
STATE_DURING_ROLL = Quirk(
    "deployments.state_during_roll",
    DEPLOYMENT,
    "UPDATING",
    "The state that a deployment shows while its replicas are replaced (READY is inferred).",
    failures=("E36",),
    choices=("UPDATING", "READY"),
)
PATCH_DURING_LOAD = Quirk(
    "deployments.patch_during_load",
    DEPLOYMENT,
    "accept",
    "A patch while a snapshot loads.",
    failures=("E18",),
    choices=("accept", "reject"),
)
PATCH_WITHOUT_MASK = Quirk(
    "deployments.patch_without_mask",
    DEPLOYMENT,
    "merge",
    "What a PATCH without updateMask replaces: what it sends, or all.",
    failures=("E19",),
    choices=("merge", "replace_all"),
)
REQUIRE_DESCRIPTION = Quirk(
    "deployments.require_description",
    ACCOUNT,
    False,
    "A deployment without a description is refused.",
    failures=("E22",),
)
PRIVATE_SHAPES = Quirk(
    "deployments.private_shapes",
    ACCOUNT,
    False,
    "Deployment shapes are private: they need forTraining.",
    failures=("E22",),
)
TAG_RULE = Quirk(
    "deployments.tag_rule",
    ACCOUNT,
    "any",
    "Annotations that a client may write: any, or those whose key begins with custom/.",
    failures=("E26",),
    choices=("any", "custom_only"),
)
DELETE_CHECK = Quirk(
    "deployments.delete_check",
    DEPLOYMENT,
    "off",
    "A deployment that answered within the last hour is deleted, or only with ignoreChecks.",
    failures=("E38",),
    choices=("off", "recent_traffic"),
)
QUOTA = Quirk(
    "deployments.quota",
    ACCOUNT,
    0,
    "How many replicas the deployments of an account may have, each counted by its maximum; 0 is no limit.",
    failures=("E38",),
)
ADDON_LOAD_S = Quirk(
    "addons.load_s",
    DEPLOYMENT,
    0.0,
    "How long an adapter that is loaded onto a deployment is DEPLOYING, and UNDEPLOYING when it is unloaded.",
    failures=("D19",),
)
VALIDATION_SKIP = Quirk(
    "validation.skip",
    DEPLOYMENT,
    False,
    "Bucket scopes are not validated; a mix-up shows only when loading.",
    failures=("E14",),
)
HOTLOAD_RESET_PROMPT_CACHE = Quirk(
    "hotload.reset_prompt_cache",
    DEPLOYMENT,
    "accept",
    "The reset_prompt_cache field of a hot load: taken, unknown, or taken as a boolean or a word alone.",
    failures=("E1", "E27"),
    choices=("accept", "reject", "bool_only", "string_only"),
)
HOTLOAD_VALIDATION = Quirk(
    "hotload.validation",
    DEPLOYMENT,
    "accept",
    "The validation field of a hot load.",
    failures=("E1",),
    choices=("accept", "reject"),
)
HOTLOAD_LEDGER = Quirk(
    "hotload.ledger",
    DEPLOYMENT,
    True,
    "There are a ledger and a hint of hot loads; else both paths are unknown (404).",
    failures=("E30",),
)
HOTLOAD_LEDGER_VALUE = Quirk(
    "hotload.ledger_value",
    DEPLOYMENT,
    "json",
    "What the value of a row of the ledger holds (not known): an object as text, or the identity alone.",
    failures=("E30",),
    choices=("json", "identity"),
)
HOTLOAD_CHECKED_IN = Quirk(
    "hotload.checked_in",
    DEPLOYMENT,
    "status",
    "Where a snapshot with a wrong configuration or weight map is refused (not known): in the status, or the answer.",
    failures=("E29",),
    choices=("status", "answer"),
)
HOTLOAD_STALE_ERROR_READS = Quirk(
    "hotload.stale_error_reads",
    DEPLOYMENT,
    0,
    "Status reads of a rolled replica that show an error about an older target.",
    failures=("E3", "E17"),
)
HOTLOAD_ERROR_OMITS_TARGET = Quirk(
    "hotload.error_omits_target",
    DEPLOYMENT,
    False,
    "An error status does not say which snapshot it is about.",
    failures=("E4",),
)
HOTLOAD_NULL_LOADING_STATE = Quirk(
    "hotload.null_loading_state",
    DEPLOYMENT,
    False,
    "loading_state is null.",
    failures=("E5",),
)
HOTLOAD_STATUS_SHAPE = Quirk(
    "hotload.status_shape",
    DEPLOYMENT,
    "replicas",
    "The form of the status.",
    failures=("E6",),
    choices=("replicas", "adapters", "legacy", "empty"),
)
HOTLOAD_LAG_S = Quirk(
    "hotload.lag_s",
    SNAPSHOT,
    0.0,
    "Replicas other than the first finish a load so much later.",
    failures=("E7",),
)
HOTLOAD_MANAGER_READY_AFTER_S = Quirk(
    "hotload.manager_ready_after_s",
    DEPLOYMENT,
    0.0,
    "The hot-load manager comes up so much later; early loads crash it.",
    failures=("E8",),
)
HOTLOAD_FAIL_NEXT = Quirk(
    "hotload.fail_next",
    SNAPSHOT,
    False,
    "A load fails on a replica.",
    failures=("E9", "E10"),
)
HOTLOAD_DELTA_APPLY = Quirk(
    "hotload.delta_apply",
    DEPLOYMENT,
    "copy",
    "A delta that does not fit leaves the weights, or spoils them.",
    failures=("E11",),
    choices=("copy", "inplace"),
)
HOTLOAD_STALE_CACHE = Quirk(
    "hotload.stale_cache",
    DEPLOYMENT,
    False,
    "A snapshot under the name of the one that is served is acknowledged and not read.",
    failures=("E37",),
)
HOTLOAD_ADAPTER_KEYS = Quirk(
    "hotload.adapter_keys",
    DEPLOYMENT,
    "refuse",
    "Tensors of an adapter that have no place in the model: the load fails, or they are dropped in silence.",
    failures=("D20",),
    choices=("refuse", "drop"),
)
HOTLOAD_REPLICA_RESTARTS_S = Quirk(
    "hotload.replica_restarts_s",
    DEPLOYMENT,
    0.0,
    "A load makes the replicas restart for so long; their status is 503, what they served is lost.",
    failures=("E35",),
)
HOTLOAD_UNKNOWN_IDENTITY = Quirk(
    "hotload.unknown_identity",
    DEPLOYMENT,
    "status",
    "An unknown snapshot: an error in the status, or a 404.",
    failures=("E14",),
    choices=("status", "404"),
)
HOTLOAD_DURATION_S = Quirk(
    "hotload.duration_s",
    SNAPSHOT,
    0.0,
    "How long a load takes.",
    failures=("E25", "E18", "E23"),
)
HOTLOAD_DURATION_READS = Quirk(
    "hotload.duration_reads",
    SNAPSHOT,
    0,
    "Status reads before a load is carried out.",
    failures=("E25",),
)
INFERENCE_DURING_LOAD = Quirk(
    "inference.during_load",
    DEPLOYMENT,
    "serve",
    "A completion while a snapshot loads: answered, refused, put off for as long as the load takes, or for as long as "
    "its header x-fireworks-hot-load-drain-timeout says (90 s without) and then refused with 425.",
    failures=("E23", "E31"),
    choices=("serve", "425", "404", "hang", "drain"),
)
INFERENCE_STREAM_MODEL = Quirk(
    "inference.stream_model",
    DEPLOYMENT,
    "snapshot",
    "What the chunks of a stream call the model of a hot-loaded deployment: model@snapshot, or as it was asked for; "
    "everywhere: whole answers say the snapshot too.",
    failures=("E32", "E33"),
    choices=("snapshot", "deployment", "everywhere"),
)
INFERENCE_TRUNCATE_STREAM = Quirk(
    "inference.truncate_stream",
    DEPLOYMENT,
    False,
    "A completion's stream ends before its last chunk.",
    failures=("E23",),
)
