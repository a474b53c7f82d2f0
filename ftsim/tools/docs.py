"""Generates docs/checkpoint-kinds.md from `emulator.core.kinds`: `python -m ftsim.tools.docs [FILE]`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from emulator.core.kinds import CAPABILITIES, SAVINGS, CheckpointKind, promotable
from ftsim.inspect.listing import PREFIX

_HEAD = """\
# Checkpoint kinds

This page is generated from `emulator/core/kinds.py` by `python -m ftsim.tools.docs`; change the code, then generate
it again.

## Three layers, three types

Every layer has a type of its own. They are no synonyms, and taking one for another is the usual reason why a
promotion fails.

"""
_LAYERS = (
    (
        "recipe",
        "`TrainingCheckpoints.save(resumable=, promotable=)`",
        "two booleans",
        "which blobs are written: training state, sampler weights, or both",
    ),
    (
        "SDK",
        "`save_weights_for_sampler_ext(checkpoint_type=)`",
        "`base`, `delta`, `merged_base`",
        "what the sampler blob holds; a LoRA job ignores `delta` and always stores the whole adapter",
    ),
    (
        "server",
        "`checkpointType` of a row",
        "the kinds below",
        "nothing: it is *found* in the blob, whatever the save was called, and says what the row is good for",
    ),
)
_EXPLAIN = """
`ftsim explain ROW` says for one row what each layer calls it, what it can and cannot do, and which call would have
done what you wanted.

## The kinds

"""
_FOUND = {
    CheckpointKind.TRAINING: "a `torch.distributed.checkpoint` folder: all weights, the optimizer's moments, the step",
    CheckpointKind.TRAINING_LORA: "likewise, of an adapter",
    CheckpointKind.INFERENCE_BASE: "a Hugging Face folder with full weights; merged LoRA weights are this too",
    CheckpointKind.INFERENCE_LORA: "a PEFT folder",
    CheckpointKind.INFERENCE_ARC_V2: "a Hugging Face folder of compressed differences to the snapshot before",
}
_MIDDLE = """
On the wire a kind has the prefix `CHECKPOINT_TYPE_`. A blob that is torn, truncated or of two kinds at once has no
kind, and never becomes a row.

## What a way of saving leaves

"""
_TAIL = """
A delta is not promotable because it is nothing by itself: it only turns the snapshot before it into the next one. To
get a promotable row out of a full-parameter run that hot-loads deltas, save once more with `checkpoint_type="base"`;
the recipes' final save does. `merged_base` on a LoRA job folds the adapter into the base weights and leaves
`INFERENCE_BASE`.

A resumable row is not promotable because it holds an optimizer and no model that could be served; a promotable row is
not resumable because the optimizer is missing. `TrainingCheckpoints.save(resumable=True, promotable=True)` writes
both, as two rows.
"""


def checkpoint_kinds() -> str:
    """The page as text."""
    kinds = [
        (f"`{_short(kind)}`", _FOUND[kind], _mark(can.resumable), _mark(can.promotable))
        for kind, can in CAPABILITIES.items()
    ]
    savings = [(f"`{saving.how}`", *_cells(saving.lora), *_cells(saving.full)) for saving in SAVINGS]
    return "".join(
        (
            _HEAD,
            _table(("layer", "where", "its own words", "what they decide"), _LAYERS),
            _EXPLAIN,
            _table(("kind", "found in the blob", "resumable", "promotable"), kinds),
            _MIDDLE,
            _table(("how it was saved", "LoRA", "promotable", "full-parameter", "promotable"), savings),
            _TAIL,
        )
    )


def _cells(kinds: Sequence[CheckpointKind]) -> tuple[str, str]:
    return ", ".join(f"`{_short(kind)}`" for kind in kinds), _mark(any(map(promotable, kinds)))


def _short(kind: CheckpointKind) -> str:
    return kind.value.removeprefix(PREFIX)


def _mark(value: bool) -> str:
    return "yes" if value else "no"


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(line)} |\n" for line in (heading, *rows)]
    return "".join([lines[0], f"|{'---|' * len(heading)}\n", *lines[1:]])


if __name__ == "__main__":
    Path(sys.argv[1] if len(sys.argv) > 1 else "docs/checkpoint-kinds.md").write_text(checkpoint_kinds(), "utf-8")
