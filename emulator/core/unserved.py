"""Operations of the service that are known and not emulated: each answers 501 and says what to do instead.

The table is the public gateway's, less what `core/endpoints.py` has; a row that is served later leaves it.
"""

import csv
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from emulator.core.endpoints import pattern

FILE = Path(__file__).with_suffix(".tsv")
REASONS = {
    "accounts": "an emulator has one account with one key, and no users, secrets or policies: read them on the service",
    "billing": "nothing is paid for here: read the counters with billing/summary, and ask the service for the rest",
    "evaluation": "evaluators and evaluations are not run here: evaluate in the program, on completions",
    "inference": "models here complete text and embed it: use chat/completions, responses or embeddings",
    "kept": "no response is kept: read it where it is created, and send the turns before as input",
    "managed": "managed jobs do not run here: train with a recipe, `ftsim train`",
    "models": "models come from promotion, an upload, or a folder: `ftsim serve --model NAME=FOLDER`",
    "other": "it has nothing to do with training",
    "sessions": "training sessions are made, and their runs kept, by the serverless gateway: use the training client",
    "shapes": "shapes are the vendor's: declare one of your own with `ftsim serve --catalogue FILE.toml`",
    "training": "a trainer here is a thread of the emulator: read its requests with `ftsim journal`",
}
"""The second half of each sentence, by the subject of the operation."""


class Unserved(NamedTuple):
    """An operation of the service that the emulator knows and does not carry out."""

    method: str
    path: str
    operation: str
    subject: str

    @property
    def sentence(self) -> str:
        """The words that refuse it."""
        return f"{self.operation} is not emulated: {REASONS[self.subject]}"


@cache
def operations() -> tuple[Unserved, ...]:
    """All of them, in the table's order."""
    with FILE.open(encoding="utf-8", newline="") as file:
        return tuple(Unserved(**row) for row in csv.DictReader(file, delimiter="\t"))


def found(method: str, path: str) -> Unserved | None:
    """The operation that a request means; None where the service has none either."""
    candidates: Iterator[Unserved] = (one for one in operations() if one.method == method)
    return next((one for one in candidates if pattern(one.path).fullmatch(path)), None)
