"""The quirks of what a checkpoint list shows."""

from emulator.quirks.engine import JOB, MOST, ROW, Quirk

TIME_PRECISION = Quirk(
    "rows.time_precision",
    ROW,
    "micros",
    "Fractional digits of createTime; mixed alternates seconds and micros, shortest leaves zeros out by threes.",
    failures=("A1", "A2", "A3", "A5"),
    choices=("micros", "mixed", "seconds", "millis", "nanos", "shortest"),
)
VISIBLE_AFTER_LISTS = Quirk(
    "rows.visible_after_lists",
    ROW,
    0,
    "A new row shows only after so many list calls.",
    failures=("A6", "A3"),
)
VISIBLE_AFTER_S = Quirk(
    "rows.visible_after_s",
    ROW,
    0.0,
    "A new row shows only after so many seconds.",
    failures=("A6", "A3"),
)
PAGE_SIZE_CAP = Quirk(
    "rows.page_size_cap",
    JOB,
    1000,
    "The largest page the server gives, whatever is asked.",
    failures=("A7",),
    bounds=(1, MOST),
)
CLOCK_SKEW_S = Quirk(
    "clock.skew_s",
    ROW,
    0.0,
    "The server's stamps are off by so many seconds.",
    failures=("A4",),
    bounds=(-MOST, MOST),
)
KEY_STYLE = Quirk(
    "rows.key_style",
    JOB,
    "checkpoints",
    "The key under which a page of rows comes, and of its token.",
    failures=("A7",),
    choices=("checkpoints", "rlorTrainerJobCheckpoints", "snake_case"),
)
ENDLESS_TOKEN = Quirk(
    "rows.endless_token",
    JOB,
    False,
    "Every page names the same next page, for ever.",
    failures=("A7",),
)
OMIT: Quirk[list[str]] = Quirk(
    "rows.omit",
    ROW,
    [],
    "Fields that rows lack, such as createTime or promotable.",
    failures=("A14",),
)
AVAILABILITY = Quirk(
    "rows.availability",
    JOB,
    "SINGLE_REGION",
    "Where a row says that it is kept; empty: rows lack availability and checkpointName, as before August 2026.",
    failures=("A14",),
    choices=("SINGLE_REGION", "MANAGED_DURABLE", ""),
)
RESTORE_REFERENCE = Quirk(
    "rows.restore_reference",
    JOB,
    "cross_job",
    "What restoreReference of a job's training state holds (inferred): what any job loads it by, its name, or nothing.",
    failures=("A14",),
    choices=("cross_job", "name", "none"),
)
DROP_FALSE = Quirk(
    "rows.drop_false",
    ROW,
    False,
    "Rows say promotable only when it is true.",
    failures=("A14",),
)
EXTRA_TYPE = Quirk(
    "rows.extra_type",
    JOB,
    "",
    "Another row in the list, of this unknown checkpointType.",
    failures=("A14",),
)
SESSION_NAME_STYLE = Quirk(
    "sessions.name_style",
    ROW,
    "dash",
    "What stands between run and name in the id of a session's row.",
    failures=("A13",),
    choices=("dash", "colon"),
)
