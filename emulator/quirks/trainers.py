"""The quirks of a trainer: its sessions, its models, the order and the answers of its operations."""

from emulator.quirks.engine import ACCOUNT, JOB, VERB, Quirk

OPTIM_SLOW_S = Quirk(
    "optim.slow_s",
    JOB,
    0.0,
    "Real seconds that an optimizer step takes longer.",
    failures=("B6",),
)
SESSIONS_CREATE = Quirk(
    "sessions.create",
    JOB,
    "additive",
    "A second create_session leaves the live models, or unloads them.",
    failures=("F10",),
    choices=("additive", "destructive"),
)
SESSIONS_MAX_GPU = Quirk(
    "sessions.max_gpu",
    JOB,
    0,
    "How many models fit on a trainer; 0 is no limit.",
    failures=("F11",),
)
SESSIONS_QUOTA = Quirk(
    "sessions.quota",
    ACCOUNT,
    8,
    "How many runs an account may have on the pool, in sessions that have not ended; 0 is no limit.",
    failures=("F19", "G4"),
)
SESSIONS_UNLOAD_FREES_PLACE = Quirk(
    "sessions.unload_frees_place",
    ACCOUNT,
    False,
    "Unloading a run's model frees its place in the quota; else only the end of its session does (inferred).",
    failures=("G4",),
)
SESSIONS_LEAK_ON_FAILED_CREATE = Quirk(
    "sessions.leak_on_failed_create",
    JOB,
    False,
    "A session whose first model cannot be created stays behind and keeps its place in the quota.",
    failures=("F19",),
)
SESSIONS_INACTIVITY_S = Quirk(
    "sessions.inactivity_s",
    JOB,
    1800.0,
    "Stop a training session after so long without a sign of life; 0 never.",
    failures=("F9",),
)
SESSIONS_ENDED_RUN = Quirk(
    "sessions.ended_run",
    JOB,
    "404",
    "A call for a run whose session has expired: not found, or a conflict that names the run's state.",
    failures=("G5",),
    choices=("404", "409"),
)
SESSIONS_ROWS_OUTLIVE = Quirk(
    "sessions.rows_outlive",
    JOB,
    False,
    "Rows of a session that was deleted or has expired are still listed and promoted, for 30 days.",
    failures=("F19", "G2"),
)
UNLOAD_CLEARS_REQUEST_STATE = Quirk(
    "unload.clears_request_state",
    JOB,
    False,
    "Unloading a full-parameter model clears the trainer's request state: other jobs find no checkpoint of it.",
    failures=("F12", "C4"),
)
RPC_DEDUPE = Quirk(
    "rpc.dedupe",
    VERB,
    True,
    "A resent (model_id, seq_id) answers with the first one's result.",
    failures=("F13", "B2"),
)
RPC_ORDER = Quirk(
    "rpc.order",
    JOB,
    "sequence",
    "The order of a model's calls: by their numbers, which waits for those that are late, or by their arrival.",
    failures=("F23",),
    choices=("sequence", "arrival"),
)
FUTURES_TTL_S = Quirk(
    "futures.ttl_s",
    JOB,
    0.0,
    "A result is gone (410) so many seconds after it was ready; 0 never.",
    failures=("F14",),
)
FUTURES_EXPIRE_NEXT = Quirk(
    "futures.expire_next",
    VERB,
    False,
    "A finished result is gone (410) when it is fetched.",
    failures=("F14",),
)
FUTURES_NEVER_RESOLVE = Quirk(
    "futures.never_resolve",
    VERB,
    False,
    "An operation is accepted, not run, and never answered.",
    failures=("F10", "F16"),
)
FUTURES_ANSWER = Quirk(
    "futures.answer",
    VERB,
    "",
    "What retrieve_future answers instead of the truth.",
    failures=("F15",),
    choices=(
        "",
        "try_again",
        "paused_capacity",
        "paused_rate_limit",
        "complete_metadata",
        "refuse_metadata",
        "empty_400",
        "400",
        "402",
        "404",
        "408",
        "409",
        "410",
        "429",
        "500",
        "503",
        "capacity_exhausted",
        "recovery_required",
    ),
)
