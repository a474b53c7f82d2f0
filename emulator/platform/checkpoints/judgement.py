"""Judges a row: can it be resumed, can it be promoted, and why (not). Promotion refuses in these words."""

from typing import NamedTuple

from emulator.core.kinds import CAPABILITIES, CheckpointKind
from emulator.state.entities import Checkpoint

HOW_TO_SAVE = 'save_weights_for_sampler_ext(checkpoint_type="base") / TrainingCheckpoints.save(promotable=True)'
_DCP = "resumable training state (DCP)"
_WHAT = {
    CheckpointKind.TRAINING: _DCP,
    CheckpointKind.TRAINING_LORA: _DCP,
    CheckpointKind.INFERENCE_BASE: "full weights as a Hugging Face folder",
    CheckpointKind.INFERENCE_LORA: "an adapter as a PEFT folder",
    CheckpointKind.INFERENCE_ARC_V2: "a delta over the previous snapshot",
}


class Judgement(NamedTuple):
    """Says what a row is good for, why (not), and what would have made it promotable ("" where it is)."""

    resumable: bool
    promotable: bool
    resume: str
    promote: str
    instead: str = ""


def what_it_is(row: Checkpoint) -> str:
    """Say in a few words what lies behind a row."""
    return _WHAT[row.kind]


def judge(row: Checkpoint, *, there: bool = True) -> Judgement:
    """Judge a row by its kind; `there` says whether its files are."""
    if not there:
        return Judgement(False, False, "its files are gone", "its files are gone")
    resumable, promotable = CAPABILITIES[row.kind]
    resume = "weights, moments and step are in it" if resumable else "no optimizer in it"
    promote = what_it_is(row)
    if row.kind is CheckpointKind.INFERENCE_ARC_V2 and row.previous_snapshot:
        promote = f"a delta over {row.previous_snapshot}, nothing by itself"
    return Judgement(resumable, promotable, resume, promote, "" if promotable else f"save with {HOW_TO_SAVE}")
