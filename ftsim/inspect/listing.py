"""Checkpoint rows as a person reads them: from a listing of any shape, with what an emulator knows besides."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from emulator.core.kinds import CAPABILITIES, CheckpointKind
from ftsim.training.checkpoints.rows import parse_time, step_of

PREFIX = "CHECKPOINT_TYPE_"
TRAINING_KINDS = frozenset({CheckpointKind.TRAINING, CheckpointKind.TRAINING_LORA})
LORA_KINDS = frozenset({CheckpointKind.TRAINING_LORA, CheckpointKind.INFERENCE_LORA})
FULL_KINDS = frozenset({CheckpointKind.TRAINING, CheckpointKind.INFERENCE_ARC_V2})
_KEYS = ("checkpoints", "rlorTrainerJobCheckpoints", "trainingSessionCheckpoints")
_LIST = re.compile(r"/v1/accounts/[^/]+/[^/]+/[^/]+/checkpoints")
_RUN = re.compile(r"(run-[0-9a-f]{32})[-:](.+)")
_SUFFIX = re.compile(r"(.+)-([0-9a-f]{8})")
_WEIGHT_SYNC = re.compile(r"weight-sync-[0-9a-f]{32}|sync-\d+")
"""Names of weight syncs: the SDK's managed path's, and those of `rl_loop`."""


@dataclass(frozen=True)
class ListedRow:
    """One row. `created` is in nanoseconds; None, like every other None, means that the listing did not say."""

    id: str
    name: str = ""
    type: str = ""
    created: int | None = None
    created_text: str = ""
    listed_promotable: bool | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> CheckpointKind | None:
        """The kind, prefixed or not (FAILURES A14: any other type is opaque)."""
        try:
            return CheckpointKind(PREFIX + self.type.removeprefix(PREFIX))
        except ValueError:
            return None

    @property
    def short_type(self) -> str:
        return self.type.removeprefix(PREFIX) or "unknown"

    @property
    def resumable(self) -> bool:
        return self.kind is not None and CAPABILITIES[self.kind].resumable

    @property
    def promotable(self) -> bool:
        """The row's own word; absent means no (FAILURES A14)."""
        return bool(self.listed_promotable)

    @property
    def owner(self) -> str:
        """Id of the job or session that lists the row, or nothing."""
        parts = self.name.split("/")
        return parts[3] if len(parts) >= 6 and parts[0] == "accounts" else ""

    @property
    def collection(self) -> str:
        """`rlorTrainerJobs`, `trainingSessions`, ..., or nothing."""
        parts = self.name.split("/")
        return parts[2] if len(parts) >= 6 and parts[0] == "accounts" else ""

    @property
    def run(self) -> str:
        """The run a serverless row belongs to (FAILURES A13), or nothing."""
        match = _RUN.fullmatch(self.id)
        return match[1] if match else ""

    @property
    def suffix(self) -> str:
        """The ending that may be the session suffix of a sampler row (FAILURES A10, A11); training rows carry none."""
        match = None if self.kind in TRAINING_KINDS else _SUFFIX.fullmatch(self.local)
        return match[2] if match else ""

    @property
    def logical(self) -> str:
        """The name that the save was given, as far as the row tells."""
        return self.local[: -len(self.suffix) - 1] if self.suffix else self.local

    @property
    def step(self) -> int | None:
        """Optimizer step: the emulator's own count, else what the name says."""
        known = self.facts.get("step")
        return known if isinstance(known, int) else step_of(self.logical)

    @property
    def from_weight_sync(self) -> bool:
        """Say whether a WeightSyncer wrote it, by its name."""
        return _WEIGHT_SYNC.fullmatch(self.logical) is not None

    @property
    def loaded_by(self) -> tuple[str, ...]:
        """The deployments that ever loaded it, as far as an emulator tells."""
        return tuple(self.facts.get("loaded_by") or ())

    @property
    def local(self) -> str:
        """The id within its run, or the whole id."""
        match = _RUN.fullmatch(self.id)
        return match[2] if match else self.id

    @property
    def path(self) -> str:
        """The path that load_state takes: its id, of a run's row the account, the run and the name (WIRE 5.2)."""
        return f"{self.name.split('/')[1]}/{self.run}/{self.local}" if self.run and self.collection else self.id


def parse(text: str) -> list[ListedRow]:
    """Rows of a saved listing: a list, an answer of the API, several of them, JSON lines, a journal with such answers.

    Raises ValueError.
    """
    value = _value(text)
    rows = list(_rows(value))
    if not rows and value not in ([], {}) and not _is_page(value):
        raise ValueError("no checkpoint rows in it: expected a list of rows or an answer with a key `checkpoints`")
    return rows


def is_cut(text: str) -> bool:
    """Say whether the last page of a saved listing names a next one."""
    value = _value(text)
    pages = [page for page in (value if isinstance(value, list) else [value]) if _is_page(page)]
    return bool(pages) and bool(page_rows(pages[-1])[1])


def read(raw: Mapping[str, Any], facts: Mapping[str, Any] | None = None) -> ListedRow:
    """One row of a listing, whatever it lacks."""
    name = str(raw.get("name") or raw.get("id") or "")
    created = str(raw.get("createTime") or raw.get("create_time") or "")
    promotable = raw.get("promotable")
    return ListedRow(
        id=name.rsplit("/", 1)[-1],
        name=name if "/" in name else "",
        type=str(raw.get("checkpointType") or raw.get("checkpoint_type") or ""),
        created=_time(created),
        created_text=created,
        listed_promotable=promotable if isinstance(promotable, bool) else None,
        facts=facts or {},
    )


def page_rows(answer: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], str]:
    """Rows and next page token of one answer of the API, under any of their names (FAILURES A7)."""
    rows: list[Mapping[str, Any]] = next((answer[key] for key in _all_keys() if key in answer), [])
    return rows, str(answer.get("nextPageToken") or answer.get("next_page_token") or "")


def oldest_first(rows: Iterable[ListedRow]) -> list[ListedRow]:
    """By time, not by text (FAILURES A1); rows without a time keep their place at the front."""
    return sorted(rows, key=lambda row: row.created or 0)


def newest_by_text(rows: Sequence[ListedRow]) -> ListedRow | None:
    """The row that a comparison of createTime as text takes for the newest one (FAILURES A2)."""
    stamped = [row for row in rows if row.created_text]
    return max(stamped, key=lambda row: row.created_text) if stamped else None


def _value(text: str) -> Any:
    """Return what a text holds: JSON, or a list of what its lines hold; of a journal the newest listings."""
    try:
        return json.loads(text)
    except ValueError:
        lines = [_json(line, number) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    return _newest_listings(lines) if _is_journal(lines) else lines


def _is_journal(lines: Sequence[Any]) -> bool:
    return bool(lines) and isinstance(lines[0], dict) and lines[0].get("kind") == "journal"


def _newest_listings(entries: Sequence[Any]) -> list[Any]:
    """The pages of the last time that each list of checkpoints was read in a journal."""
    pages: dict[str, list[Any]] = {}
    for entry in entries:
        if not isinstance(entry, dict) or entry.get("status") != 200 or entry.get("method") != "GET":
            continue
        path, answer = str(entry.get("path")), entry.get("response")
        if not _LIST.fullmatch(path) or not isinstance(answer, str):
            continue
        try:
            page = json.loads(answer)
        except ValueError:  # it was cut when it was recorded
            continue
        if "page_token=" not in str(entry.get("query")).replace("pageToken", "page_token"):
            pages[path] = []
        pages.setdefault(path, []).append(page)
    return [page for listing in pages.values() for page in listing]


def _rows(value: Any) -> Iterable[ListedRow]:
    if isinstance(value, list):
        for entry in value:
            yield from _rows(entry)
    elif isinstance(value, dict):
        if _is_page(value):
            yield from (read(row) for row in page_rows(value)[0] if isinstance(row, dict))
        elif value.get("name") or value.get("id"):
            yield read(value)


def _is_page(value: Any) -> bool:
    return isinstance(value, dict) and any(isinstance(value.get(key), list) for key in _all_keys())


def _all_keys() -> tuple[str, ...]:
    return (*_KEYS, *(re.sub(r"([A-Z])", lambda match: "_" + match[1].lower(), key) for key in _KEYS[1:]))


def _json(line: str, number: int) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise ValueError(f"line {number} is not JSON: {error}") from None


def _time(text: str) -> int | None:
    try:
        return parse_time(text)
    except ValueError:
        return None
