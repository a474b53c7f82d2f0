"""The quirks of saving checkpoints."""

from emulator.quirks.engine import JOB, ROW, Quirk

ON_DUPLICATE = Quirk(
    "save.on_duplicate",
    ROW,
    "conflict",
    "A resumable save under a taken name: refused unless the same step again, replaced, or always refused.",
    failures=("B1", "B2"),
    choices=("conflict", "overwrite", "strict"),
)
SAMPLER_ON_DUPLICATE = Quirk(
    "sampler.on_duplicate",
    JOB,
    "overwrite",
    "A sampler save under a taken name: takes its place and its path, or is refused (inferred).",
    failures=("B14",),
    choices=("overwrite", "conflict"),
)
DCP_RENAME = Quirk(
    "dcp.rename",
    ROW,
    "caller",
    "A training state is listed as it was called, or by the trainer's own step counter.",
    failures=("A8", "A9"),
    choices=("caller", "internal_step"),
)
DCP_RENAME_AFTER_S = Quirk(
    "dcp.rename_after_s",
    ROW,
    0.0,
    "How long such a row shows the caller's name before it is renamed.",
    failures=("A9",),
)
DCP_TORN = Quirk(
    "dcp.torn",
    ROW,
    "",
    "What is missing behind a training state that is listed all the same.",
    failures=("C22",),
    choices=("", "missing_metadata", "missing_shard"),
)
DAMAGED = Quirk(
    "save.damaged",
    ROW,
    False,
    "One bit of a saved checkpoint's largest file is another one on disk: it is refused at every use.",
    failures=("C32",),
)
SAMPLER_SUFFIX = Quirk(
    "sampler.suffix",
    JOB,
    "session",
    "The hex digits that end a sampler row's name: the session's, none, or others.",
    failures=("A10",),
    choices=("session", "none", "random"),
)
NAMES_MAX_LEN = Quirk(
    "names.max_len",
    JOB,
    128,
    "The longest checkpoint name that a save may have.",
    failures=("B4",),
)
SERVERLESS_NAMES_MAX_LEN = Quirk(
    "sessions.names_max_len",
    JOB,
    17,
    "The longest checkpoint name that a save on the pool may have; 0 is no limit of the pool's own.",
    failures=("B4",),
)
SAMPLER_NAMES_MAX_LEN = Quirk(
    "sampler.names_max_len",
    JOB,
    0,
    "The longest name of a sampler save on a trainer job; 0 is no limit, 54 the pool's rule (inferred).",
    failures=("B4",),
)
NAMES_ENFORCE_ON_SAVE = Quirk(
    "names.enforce_on_save",
    JOB,
    False,
    "Refuse at save what the SDK would refuse at load.",
    failures=("B3", "B4"),
)
SAMPLER_DELTA_WITHOUT_BASE = Quirk(
    "sampler.delta_without_base",
    JOB,
    "reject",
    "A full-parameter model's first delta: refused, or stored as base.",
    failures=("B11",),
    choices=("reject", "store"),
)
TTL = Quirk(
    "save.ttl",
    JOB,
    "reject",
    "ttl_seconds on a save: refused (ignored on a sampler save), taken, or refused below an hour.",
    failures=("B5", "B16"),
    choices=("reject", "accept", "min_3600"),
)
PATH_STYLE = Quirk(
    "save.path_style",
    JOB,
    "logical",
    "How save_weights names what it saved.",
    failures=("C2",),
    choices=("logical", "tinker_uri", "gs_uri"),
)
DURATION_S = Quirk(
    "save.duration_s",
    JOB,
    0.0,
    "Real seconds that a save takes longer.",
    failures=("B13", "B15"),
)
SAMPLER_RETURN_NULL_PATH = Quirk(
    "sampler.return_null_path",
    JOB,
    False,
    "A sampler save answers path null.",
    failures=("B9",),
)
DCP_DURABLE_AFTER_S = Quirk(
    "dcp.durable_after_s",
    ROW,
    0.0,
    "cross_job:// finds a training state only after so many seconds.",
    failures=("C3",),
)
EXPORT_ADAPTER_KEYS = Quirk(
    "export.adapter_keys",
    JOB,
    "exact",
    "The tensors of an exported adapter: its own, with factors of a head that is not served, or under another prefix.",
    failures=("D20",),
    choices=("exact", "extra_head", "other_prefix"),
)
