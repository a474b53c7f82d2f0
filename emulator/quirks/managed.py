"""The quirks of data sets and managed jobs: how what the service takes no longer is refused (not known)."""

from emulator.quirks.engine import ACCOUNT, Quirk

_STATUSES = ("400", "403", "404", "501")

DATASETS_WRITES = Quirk(
    "datasets.writes",
    ACCOUNT,
    "501",
    "The status of whatever would write a data set.",
    choices=_STATUSES,
)
DATASETS_TEXT = Quirk(
    "datasets.writes_text",
    ACCOUNT,
    "",
    "The text of that refusal, which is not known; empty: the emulator's own.",
)
CREATES = Quirk(
    "managed.creates",
    ACCOUNT,
    "400",
    "The status of a create of a managed job, which is not known.",
    choices=_STATUSES,
)
CREATES_TEXT = Quirk(
    "managed.creates_text",
    ACCOUNT,
    "",
    "The text of that refusal, which is not known; empty: the emulator's own.",
)
