"""The quirks of promotion, and of the operations that it may answer with."""

from emulator.quirks.engine import ACCOUNT, PROMOTION, Quirk

MODELS_ID_RULE = Quirk(
    "models.id_rule",
    PROMOTION,
    "sdk",
    "Which ids a promotion accepts.",
    failures=("D4",),
    choices=("sdk", "dns_label"),
)
ASYNC = Quirk(
    "promote.async",
    PROMOTION,
    "inline",
    "How promotion answers: at once, through an operation, or not knowing the field.",
    failures=("D7", "D8", "D9"),
    choices=("inline", "operation", "unsupported"),
)
ON_EXISTING = Quirk(
    "promote.on_existing",
    PROMOTION,
    "conflict",
    "Promoting onto a taken model id.",
    failures=("D5", "D6"),
    choices=("conflict", "same_source_ok"),
)
BLOB = Quirk(
    "promote.blob",
    PROMOTION,
    "present",
    "Whether promotion finds the blob behind a listed row.",
    failures=("D3",),
    choices=("present", "missing", "orphaned_after_bad_id"),
)
DURATION_S = Quirk(
    "promote.duration_s",
    PROMOTION,
    0.0,
    "How long a promoted model is UPLOADING.",
    failures=("D7",),
)
BASE_MODEL = Quirk(
    "promote.base_model",
    PROMOTION,
    "required",
    "Whether base_model must be sent.",
    failures=("D11",),
    choices=("required", "inferred"),
)
SERVE_FORM = Quirk(
    "models.serve_form",
    ACCOUNT,
    "any",
    "How a promoted model is asked: also by its own id, or through a deployment alone, by full paths.",
    failures=("D19",),
    choices=("any", "deployed"),
)
ZERO_DELTA = Quirk(
    "promote.zero_delta",
    PROMOTION,
    "accept",
    "Weights that no optimizer step has changed: promoted, promoted with a word in the description, or refused "
    "(what the service does is inferred).",
    failures=("H1",),
    choices=("accept", "warn", "reject"),
)
PROMOTABLE_FLIPS = Quirk(
    "rows.promotable_flips",
    PROMOTION,
    False,
    "A row listed as promotable is refused when promoted.",
    failures=("D10",),
)
OPERATIONS_PENDING_READS = Quirk(
    "operations.pending_reads",
    ACCOUNT,
    0,
    "Reads of an operation before it is done.",
    failures=("D9",),
)
OPERATIONS_ENDS_WITH = Quirk(
    "operations.ends_with",
    ACCOUNT,
    "response",
    "What a done operation holds.",
    failures=("D9",),
    choices=("response", "error", "nothing"),
)
OPERATIONS_METADATA_STYLE = Quirk(
    "operations.metadata_style",
    ACCOUNT,
    "statusMessage",
    "How a pending operation spells its status text.",
    failures=("D9",),
    choices=("statusMessage", "status_message", "value"),
)
