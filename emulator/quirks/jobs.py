"""The quirks of trainer jobs: their states, quotas, and what may be asked of one."""

from emulator.quirks.engine import ACCOUNT, JOB, Quirk

PENDING_S = Quirk(
    "jobs.pending_s",
    JOB,
    0.0,
    "How long a new or resumed job waits in PENDING for capacity.",
    failures=("F7",),
)
CREATE_S = Quirk(
    "jobs.create_s",
    JOB,
    0.0,
    "How long it then stays in CREATING.",
    failures=("F7",),
)
STATE_SCRIPT: Quirk[list[str]] = Quirk(
    "jobs.state_script",
    JOB,
    [],
    "States that successive reads of a job are shown before the true one.",
    failures=("F7",),
)
RESUME_FLIP_AFTER_READS = Quirk(
    "jobs.resume_flip_after_reads",
    JOB,
    0,
    "Reads of a resumed job that still show the old state.",
    failures=("F1",),
)
STALE_RUNNING_READS = Quirk(
    "jobs.stale_running_reads",
    JOB,
    0,
    "Reads of a preempted job that still show RUNNING.",
    failures=("F2",),
)
HEALTHZ = Quirk(
    "jobs.healthz",
    JOB,
    200,
    "What healthz of a running trainer answers.",
    failures=("F2", "F8"),
    bounds=(400, 599),
)
CANCEL_SETTLES_IN = Quirk(
    "jobs.cancel_settles_in",
    JOB,
    "CANCELLED",
    "The state that a cancelled job settles in.",
    choices=("CANCELLED", "DELETING"),
)
CANCEL_S = Quirk(
    "jobs.cancel_s",
    JOB,
    0.0,
    "How long a cancelled job stays in CANCELLING.",
    failures=("F1",),
)
DELETE_S = Quirk(
    "jobs.delete_s",
    JOB,
    0.0,
    "How long a deleted job stays in DELETING (inferred).",
    failures=("F24",),
)
CREATE_VISIBLE_AFTER_S = Quirk(
    "jobs.create_visible_after_s",
    JOB,
    0.0,
    "How long a new job is not found and not listed, although it runs (inferred).",
    failures=("F24",),
)
INACTIVITY_S = Quirk(
    "jobs.inactivity_s",
    JOB,
    600.0,
    "Stop a job after so long without a request, where the job does not say; 0 never.",
    failures=("F9", "F21"),
)
INACTIVITY_SETTLES_IN = Quirk(
    "jobs.inactivity_settles_in",
    JOB,
    "PAUSED",
    "The state that an idle job settles in.",
    failures=("F9",),
    choices=("PAUSED", "COMPLETED"),
)
WARM_START_LORA = Quirk(
    "jobs.warm_start_lora",
    ACCOUNT,
    "rejected",
    "A LoRA add-on as warmStartFrom: refused, or without effect.",
    failures=("C12",),
    choices=("rejected", "ignored"),
)
QUOTA = Quirk(
    "jobs.quota",
    ACCOUNT,
    0,
    "How many jobs an account may have running or waiting; 0 is no limit.",
    failures=("F17", "F18"),
)
QUOTA_ANSWER = Quirk(
    "jobs.quota_answer",
    ACCOUNT,
    "403",
    "How a create over the quota is refused: 403 with a reason, or 429.",
    failures=("F17", "F18"),
    choices=("403", "429"),
)
SHAPES_ENABLED = Quirk(
    "shapes.enabled",
    ACCOUNT,
    True,
    "Whether training shapes are enabled for the account; if not, 412.",
    failures=("F18",),
)
MAX_LORA_RANK = Quirk(
    "jobs.max_lora_rank",
    ACCOUNT,
    256,
    "The largest loraRank that a job may ask for.",
    failures=("C10",),
)
LEGACY_BUCKET = Quirk(
    "jobs.legacy_bucket",
    JOB,
    False,
    "Promotion finds a job's blobs only when it names the deployment.",
    failures=("D12",),
)
