"""Explains a row: how it came to be, what it can and cannot do, and the call that would have done what was wanted.

Three layers have a type of their own: the recipe's two booleans, the SDK's `checkpoint_type`, and the server's
`checkpointType`, which is found in the blob. They are no synonyms (WIRE 5.3).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from emulator.core.kinds import CAPABILITIES, CheckpointKind
from emulator.core.names import is_loadable
from ftsim.inspect.doctor import judge
from ftsim.inspect.listing import FULL_KINDS, LORA_KINDS, TRAINING_KINDS, ListedRow, newest_by_text, oldest_first

Want = Literal["promote", "resume"]
_K = CheckpointKind


@dataclass(frozen=True)
class Layer:
    """One layer's own word for the row, and what it means there."""

    layer: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Advice:
    """The advice for one aim: the call to make, the call that would have done, what can still be done."""

    want: Want
    possible: bool
    call: str
    instead: str = ""
    """With `possible` false: the SDK call that the recipe's call makes."""
    still: tuple[str, ...] = ()


@dataclass(frozen=True)
class Explanation:
    """Everything there is to say about one row."""

    row: ListedRow
    layers: tuple[Layer, ...]
    can: tuple[str, ...]
    cannot: tuple[str, ...]
    advice: tuple[Advice, ...]
    notes: tuple[str, ...]


def explain(
    row: ListedRow, siblings: Sequence[ListedRow], want: Want | None = None, *, cut: bool = False
) -> Explanation:
    """`siblings` are all rows of the same job or session, this one too; without `want` both wishes are answered.

    `cut` says that the listing names a next page that is not in it.
    """
    rows = oldest_first(siblings)
    wishes: tuple[Want, ...] = (want,) if want else ("resume", "promote")
    can, cannot = _abilities(row)
    return Explanation(
        row=row,
        layers=_layers(row, _is_lora(row, rows)),
        can=can,
        cannot=cannot,
        advice=tuple(_promote(row, rows) if wish == "promote" else _resume(row, rows) for wish in wishes),
        notes=(*_notes(row, rows), *((_CUT,) if cut else ())),
    )


_CUT = "the listing names a next page that is not in it: rows may be missing, better ones than those above too (A7)"


def _is_lora(row: ListedRow, rows: Sequence[ListedRow]) -> bool | None:
    """Say whether the job trains an adapter; None when nothing tells."""
    if isinstance(rank := row.facts.get("lora_rank"), int):
        return rank > 0
    kinds = {other.kind for other in rows} | {row.kind}
    return True if kinds & LORA_KINDS else False if kinds & FULL_KINDS else None


_RECIPE = {
    _K.TRAINING: ("resumable=True", "the half of a save that a rerun resumes from"),
    _K.TRAINING_LORA: ("resumable=True", "the half of a save that a rerun resumes from"),
    _K.INFERENCE_BASE: ("promotable=True", "the half of a save that becomes a model"),
    _K.INFERENCE_LORA: ("promotable=True", "the half of a save that becomes a model"),
    _K.INFERENCE_ARC_V2: (
        "neither",
        "no save of TrainingCheckpoints makes this kind; somebody called the SDK, or WeightSyncer did",
    ),
}
_SERVER = {
    _K.TRAINING: "found a torch.distributed.checkpoint folder: all weights, the optimizer's moments, step",
    _K.TRAINING_LORA: "found a torch.distributed.checkpoint folder: the adapter, its optimizer's moments, step",
    _K.INFERENCE_BASE: "found a whole Hugging Face model: config, safetensors, tokenizer; no optimizer",
    _K.INFERENCE_LORA: "found a PEFT folder: the whole adapter, no optimizer",
    _K.INFERENCE_ARC_V2: "found compressed differences to an earlier snapshot: useless without every snapshot before",
}
_OPAQUE = "a type this version does not know; it is opaque, only `promotable` counts"


def _layers(row: ListedRow, lora: bool | None) -> tuple[Layer, ...]:
    kind = row.kind
    if kind is None:
        said = row.type or "(absent)"
        return (Layer("recipe", "unknown", _OPAQUE), Layer("SDK", "unknown", _OPAQUE), Layer("server", said, _OPAQUE))
    recipe = _RECIPE[kind]
    if kind is _K.INFERENCE_BASE and lora:
        recipe = ("neither", "on a LoRA job TrainingCheckpoints saves adapters; somebody asked the SDK to merge")
    elif row.from_weight_sync and kind is not _K.INFERENCE_ARC_V2:
        recipe = ("neither", "a weight sync wrote it; it counts as promotable=True all the same")
    elif row.loaded_by and kind is not _K.INFERENCE_ARC_V2:
        loaders = ", ".join(row.loaded_by)
        recipe = (
            "neither, or promotable=True",
            f"deployment {loaders} loaded it, so a weight sync may have written it; it counts as promotable=True",
        )
    return (
        Layer("recipe", recipe[0], recipe[1]),
        Layer("SDK", *_sdk(row, kind, lora)),
        Layer("server", kind.value, _SERVER[kind]),
    )


def _sdk(row: ListedRow, kind: CheckpointKind, lora: bool | None) -> tuple[str, str]:
    """The SDK call that left this kind: as the emulator recorded it, else as far as the kind tells."""
    if kind in TRAINING_KINDS:
        return "save_state", "it has no checkpoint_type"
    by = ""
    if row.from_weight_sync:
        by = " (WeightSyncer.save_and_hotload names rows like this)"
    elif row.loaded_by:
        by = " (and a hot-load, as WeightSyncer.save_and_hotload does)"
    saved_as = row.facts.get("saved_as")
    if saved_as in ("base", "delta", "merged_base"):
        ignored = ", which a LoRA job ignores" if kind is _K.INFERENCE_LORA and saved_as == "delta" else ""
        return f'checkpoint_type="{saved_as}"', f"save_weights_for_sampler_ext{by}{ignored}"
    if kind is _K.INFERENCE_LORA:
        return 'checkpoint_type="base" or "delta"', f"a LoRA job always stores the full adapter{by}"
    if kind is _K.INFERENCE_ARC_V2:
        return 'checkpoint_type="delta"', f"on a full-parameter job{by}"
    if lora is None:
        return 'checkpoint_type="base" or "merged_base"', f"full-parameter, or LoRA merged into its base{by}"
    return f'checkpoint_type="{"merged_base" if lora else "base"}"', f"save_weights_for_sampler_ext{by}"


def _abilities(row: ListedRow) -> tuple[tuple[str, ...], tuple[str, ...]]:
    kind = row.kind
    can: list[str] = []
    cannot: list[str] = []
    (can if row.resumable else cannot).append("be resumed (weights, optimizer, step)")
    (can if row.promotable else cannot).append("be promoted to a model")
    if kind is not None and kind not in TRAINING_KINDS:
        can.append(_serving(row))
    elif kind is not None:
        cannot.append("be sampled" if row.collection == "trainingSessions" else "be hot-loaded")
    return tuple(can), tuple(cannot)


def _serving(row: ListedRow) -> str:
    """The way in which sampler weights are served: by a deployment, or in their session."""
    if row.collection == "trainingSessions":
        return f'be sampled: service.create_sampling_client(model_path="{row.path}")'
    if row.kind is not _K.INFERENCE_ARC_V2:
        return "be hot-loaded"
    return (
        f"be hot-loaded, by a deployment that serves {row.facts.get('previous_snapshot') or 'the snapshot before it'}"
    )


def _promote(row: ListedRow, rows: Sequence[ListedRow]) -> Advice:
    base = row.facts.get("base_model") or "BASE_MODEL"
    if row.promotable:
        session = row.collection == "trainingSessions"
        command = (
            f'client.promote_session_checkpoint(name="{row.name}", output_model_id=MODEL_ID, base_model="{base}")'
            if session
            else f"ftsim promote --job-id {row.owner or 'JOB'} --checkpoint-name {row.id} "
            f"--output-model-id MODEL_ID --base-model {base}"
        )
        return Advice("promote", True, command)
    name = row.logical
    call = f'TrainingCheckpoints.save("{name}", promotable=True)'
    if row.resumable:
        call = f'TrainingCheckpoints.save("{name}", resumable=True, promotable=True, data_consumed=ROWS)'
    still = list(_nearest(row, rows, "promotable"))
    source = row if row.resumable else _same_step(row, rows, "resumable")
    if source is not None and is_loadable(source.local):
        still.append(
            f'load {source.id} and save it again: client.load_state_with_optimizer("{source.path}"), then '
            f'client.save_weights_for_sampler_ext("{name}", checkpoint_type="base"){_otherness(row, source, rows)}'
        )
    in_sdk = f'save_weights_for_sampler_ext("{name}", checkpoint_type="base")'
    return Advice("promote", False, call, in_sdk, tuple(still))


def _resume(row: ListedRow, rows: Sequence[ListedRow]) -> Advice:
    if row.resumable and row.run:
        call = f'service.create_training_client_from_state_with_optimizer("{row.path}")'
        return Advice("resume", True, f'{call}, in any session; in the run itself client.load_state("{row.local}")')
    if row.resumable:
        job = row.owner or "JOB"
        return Advice(
            "resume",
            True,
            f'rerun with the same log_path, or client.load_state_with_optimizer("{row.id}"); '
            f'from another job, at step 0: init_from_checkpoint="{job}:{row.id}"',
        )
    name = row.logical
    still = list(_nearest(row, rows, "resumable"))
    if row.kind is _K.INFERENCE_LORA and row.promotable:
        still.append("promote it and give the model as warm_start_from_adapter: the weights, a fresh optimizer, step 0")
    elif row.kind is _K.INFERENCE_BASE and row.promotable:
        still.append("promote it and give the model as base_model of a new job: the weights, a fresh optimizer, step 0")
    call = f'TrainingCheckpoints.save("{name}", resumable=True, data_consumed=ROWS)'
    return Advice("resume", False, call, f'save_state("{name}")', tuple(still))


def _same_step(row: ListedRow, rows: Sequence[ListedRow], ability: str) -> ListedRow | None:
    """The newest other row of the same run and step, or of the same name, that has an ability."""
    found = [
        other
        for other in rows
        if other.id != row.id
        and getattr(other, ability)
        and other.run == row.run
        and (other.logical == row.logical or (row.step is not None and other.step == row.step))
    ]
    return _closest(row, found, rows)


def _closest(row: ListedRow, found: Sequence[ListedRow], rows: Sequence[ListedRow]) -> ListedRow | None:
    """The newest of the row's own session, else the newest of another."""
    own = [other for other in found if not _otherness(row, other, rows)]
    return (own or found)[-1] if found else None


def _otherness(row: ListedRow, other: ListedRow, rows: Sequence[ListedRow]) -> str:
    """Tell how another row comes from another session than this one, "" when nothing says that it does.

    Sampler rows name their session; of the others the lineage tells: a resume from an older step begins a branch.
    """
    if row.suffix and other.suffix and row.suffix != other.suffix:
        return f"; it was saved by another session, -{other.suffix}, maybe with other weights (A12)"
    branches = {(verdict.row.name or verdict.row.id): verdict.branch for verdict in judge(rows).verdicts}
    mine, its = branches[row.name or row.id], branches[other.name or other.id]
    if mine == its:
        return ""
    return f"; it was saved by another session, on branch {its} of the run, this one is on branch {mine} (D15)"


def _nearest(row: ListedRow, rows: Sequence[ListedRow], ability: str) -> tuple[str, ...]:
    """Rows of the same job that have what this one lacks: of its own session first, of the same step, else newest."""
    verb = "promote" if ability == "promotable" else "resume from"
    told: list[str] = []
    if same := _same_step(row, rows, ability):
        told.append(f"{verb} {same.id}, of the same step by its name{_otherness(row, same, rows)}")
        if not _otherness(row, same, rows):
            return tuple(told)
    able = [other for other in rows if getattr(other, ability) and other.run == row.run]
    nearest = _closest(row, able, rows)
    if nearest is None or nearest is same:
        return tuple(told)
    other = _otherness(row, nearest, rows)
    step = f", step {nearest.step}" if nearest.step is not None else ""
    which = "row" if nearest is able[-1] else "row of its session"
    line = f"{verb} {nearest.id}, the newest {ability} {which}{step}: other weights than this row's{other}"
    return (*told, line) if other else (line, *told)


def _notes(row: ListedRow, rows: Sequence[ListedRow]) -> list[str]:
    return [note for look in (_row_notes, _name_notes, _list_notes) for note in look(row, rows)]


def _row_notes(row: ListedRow, _rows: Sequence[ListedRow]) -> list[str]:
    notes = []
    kind = row.kind
    if kind is not None and row.listed_promotable is None:
        drop = "the kind normally is promotable: list again" if CAPABILITIES[kind].promotable else "absent means false"
        notes.append(f"the row does not say `promotable`; {drop} (A14)")
    elif kind is not None and row.promotable != CAPABILITIES[kind].promotable:
        notes.append(
            f"the row says promotable={row.promotable}, which its kind normally is not; the service believes its own "
            "flag, and what it says can change between list and promote (D10)"
        )
    if not row.created_text:
        notes.append("the row has no createTime, so its place among the others is unknown (A14)")
    elif row.created is None:
        notes.append(f"createTime {row.created_text!r} is no RFC 3339 time")
    if row.resumable and not is_loadable(row.local):
        notes.append("the SDK refuses to load this name: use 1 to 63 of a-z, 0-9 and hyphen when saving (B3, B4)")
    return notes


def _name_notes(row: ListedRow, rows: Sequence[ListedRow]) -> list[str]:
    notes = []
    if row.run:
        others = {other.run for other in rows if other.run and other.run != row.run}
        more = f"; {len(others)} other runs are in the same list" if others else ""
        notes.append(f"the row belongs to serverless run {row.run}{more}: never mix runs (A13)")
    if row.suffix:
        shared = [other for other in rows if other.suffix == row.suffix and other.id != row.id]
        if shared:
            notes.append(
                f"-{row.suffix} is the suffix of a client session, shared with {len(shared)} more; the save was called "
                f"{row.logical!r} (A10)"
            )
        else:
            notes.append(
                f"-{row.suffix} looks like the suffix of a client session (the SDK adds it), then the save was called "
                f"{row.logical!r}; no other row shares it, so it may be part of the name (A10, A11)"
            )
        twins = [other for other in rows if other.suffix not in ("", row.suffix) and other.logical == row.logical]
        if twins:
            notes.append(
                f"{', '.join(other.id for other in twins)}: the same name saved by another session, with other weights "
                "maybe; choose by the full id (A12)"
            )
    return notes


def _list_notes(row: ListedRow, rows: Sequence[ListedRow]) -> list[str]:
    notes = []
    before = [
        other
        for other in rows
        if other.resumable and other.step and (other.created or 0) < (row.created or 0) and other.run == row.run
    ]
    if row.resumable and row.id == "step-0" and before:
        notes.append("a later row called step-0: the trainer may have renamed the save to its own counter (A8, A9)")
    elif row.step and any(other.step and other.step > row.step for other in before):
        notes.append("a higher step is older than this row: newest is not highest (D15)")
    stamped = [other for other in rows if other.created is not None]
    wrong = newest_by_text(stamped)
    if wrong is not None and wrong.id != stamped[-1].id:
        notes.append(
            f"createTime comes in mixed precisions here: as text {wrong.id} looks newest, in time it is "
            f"{stamped[-1].id}; compare times, not text (A1, A2)"
        )
    return notes
