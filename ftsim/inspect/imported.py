"""Reads a listing that was saved elsewhere, and says what an emulator is asked to bring in (`ftsim state import`)."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from emulator.core.kinds import CAPABILITIES, CheckpointKind
from ftsim.inspect.listing import FULL_KINDS, LORA_KINDS, ListedRow, is_cut, oldest_first, parse

MANAGED = ("datasets", "supervisedFineTuningJobs", "dpoJobs", "reinforcementFineTuningJobs", "batchInferenceJobs")
OWNERS = ("rlorTrainerJobs", "trainingSessions", "supervisedFineTuningJobs", "dpoJobs")
NAMELESS = "imported"
"""The id of a job whose rows do not say which one they are of."""
RANK = 8


@dataclass
class Imported:
    """Holds what is brought in; `notes` say what is not of the listing, `switches` make a list look like it."""

    body: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    switches: list[str] = field(default_factory=list)

    @property
    def owner(self) -> str:
        return str(self.body["id"])


def imported(
    text: str, *, job: str | None = None, base_model: str, lora_rank: int | None = None, blobs: bool = True
) -> Imported:
    """The import that a saved listing asks for.

    `job` chooses among the owners of the rows, or names that of rows which do not say it; without `lora_rank` it is
    8 where rows are of LoRA training. Raises ValueError for what is no listing, and for rows of several owners.
    """
    managed = list(_managed(text))
    try:
        rows = [] if managed and not _has_rows(text) else parse(text)
    except ValueError:
        if not managed:
            raise
        rows = []
    made = Imported({"managed": managed, "id": ""})
    if rows or not managed:
        _add_rows(made, rows, job, lora_rank)
        made.body |= {"base_model": base_model, "blobs": blobs}
        if is_cut(text):
            made.notes.append("the listing names a next page that is not in it: the newest rows may be missing (A7)")
    return made


def _add_rows(made: Imported, rows: Sequence[ListedRow], job: str | None, lora_rank: int | None) -> None:
    owners = {(row.collection, row.owner) for row in rows}
    if job is not None and any(owner for _, owner in owners):
        short = job.rsplit("/", 1)[-1]
        rows = [row for row in rows if row.owner == short]
        if not rows:
            raise ValueError(f"no row of it belongs to {short}; there are {', '.join(sorted(o for _, o in owners))}")
        owners = {(row.collection, row.owner) for row in rows}
    if len(owners) > 1:
        named = ", ".join(sorted(owner or "none" for _, owner in owners))
        raise ValueError(f"rows of several jobs are in it ({named}): say which with --job")
    collection, owner = next(iter(owners), ("", ""))
    if collection and collection not in OWNERS:
        raise ValueError(f"rows of {collection} cannot be brought in: use {', '.join(OWNERS)}")
    kept = list(_kept(made, oldest_first(rows)))
    kinds = {row.kind for row in kept}
    rank = lora_rank if lora_rank is not None else RANK if kinds & LORA_KINDS or not kinds & FULL_KINDS else 0
    made.body |= {
        "collection": collection or OWNERS[0],
        "id": owner or (job or NAMELESS).rsplit("/", 1)[-1],
        "lora_rank": rank,
        "rows": [_sent(row) for row in kept],
    }
    _add_switches(made, kept)


def _kept(made: Imported, rows: Sequence[ListedRow]) -> Iterator[ListedRow]:
    """The rows that can be there: once each, of a kind that is known."""
    seen: set[str] = set()
    for row in rows:
        if row.id in seen:
            made.notes.append(f"{row.id} is listed more than once: it is brought in once (A7)")
            continue
        seen.add(row.id)
        if row.kind is None:
            made.notes.append(
                f"{row.id} is not brought in: {row.type or 'no type'!r} is no type of the catalogue (A14)"
            )
            continue
        can = CAPABILITIES[row.kind].promotable
        if row.listed_promotable is not None and row.listed_promotable != can:
            said = "promotable" if row.listed_promotable else "not promotable"
            made.notes.append(f"{row.id} is listed as {said}; here its kind decides, {row.short_type} (D10)")
        yield row


def _sent(row: ListedRow) -> dict[str, Any]:
    kind = row.kind
    assert isinstance(kind, CheckpointKind)
    told = {"id": row.id, "checkpointType": kind.value, "step": row.step or 0}
    return told if row.created is None else {**told, "createTime": row.created_text}


def _add_switches(made: Imported, rows: Sequence[ListedRow]) -> None:
    """The switches under which a list shows what the saved one showed: stamps without zeros, fields that lack."""
    owner = made.owner
    shown = {_digits(row.created_text) for row in rows if row.created is not None}
    if shown - {6}:
        made.switches.append(f"rows.time_precision=shortest@job={owner}")
    stamped = [(row.created_text, row.created) for row in rows if row.created is not None]
    if shown != {6} and any(_digits(text) != _shortest(created) for text, created in stamped):
        made.notes.append("createTime comes without the zeros at its end, which the listing shows")
    for row in rows:
        lacks = ["promotable"] if row.listed_promotable is None else []
        lacks += ["createTime"] if row.created is None else []
        if lacks:
            made.switches.append(f"rows.omit={json.dumps(lacks)}@job={owner},checkpoint={row.id}")


def _digits(stamp: str) -> int:
    """The fractional digits of a stamp."""
    return sum(character.isdigit() for character in stamp.partition(".")[2].rstrip("Z").split("+")[0])


def _shortest(created: int) -> int:
    """The fractional digits that a time in nanoseconds needs, by threes."""
    return 0 if created % 10**9 == 0 else 3 if created % 10**6 == 0 else 6


def _has_rows(text: str) -> bool:
    return "checkpoints" in text.lower()


def _managed(text: str) -> Iterator[dict[str, Any]]:
    """The data sets and managed jobs of a text: lists of the API, or resources by themselves."""
    try:
        value = json.loads(text)
    except ValueError:
        return
    for one in value if isinstance(value, list) else [value]:
        yield from _managed_of(one)


def _managed_of(value: Any) -> Iterator[dict[str, Any]]:
    if not isinstance(value, Mapping):
        return
    for collection in MANAGED:
        listed = value.get(collection)
        for one in listed if isinstance(listed, list) else ():
            if isinstance(one, Mapping) and isinstance(one.get("name"), str):
                yield {"collection": collection, "id": str(one["name"]).rsplit("/", 1)[-1], "body": dict(one)}
    parts = str(value.get("name") or "").split("/")
    if len(parts) == 4 and parts[0] == "accounts" and parts[2] in MANAGED:
        yield {"collection": parts[2], "id": parts[3], "body": dict(value)}
