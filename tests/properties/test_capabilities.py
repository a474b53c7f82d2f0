"""The promotability table, said once more in other words."""

import pytest
from hypothesis import given, strategies as st

from emulator.core.kinds import CAPABILITIES, SAVINGS, CheckpointKind, promotable, resumable
from ftsim.training.checkpoints.rows import read_row

TABLE = {
    "TRAINING": (True, False),
    "TRAINING_LORA": (True, False),
    "INFERENCE_BASE": (False, True),
    "INFERENCE_LORA": (False, True),
    "INFERENCE_ARC_V2": (False, False),
}
CHEAT_SHEET = [(False, False), (True, True), (True, True), (True, False), (True, True), (True, False)]


def test_every_kind_has_its_line() -> None:
    assert {kind.value.removeprefix("CHECKPOINT_TYPE_"): tuple(CAPABILITIES[kind]) for kind in CheckpointKind} == TABLE


@given(st.sampled_from(CheckpointKind))
def test_no_kind_is_both_resumable_and_promotable(kind: CheckpointKind) -> None:
    assert not (resumable(kind) and promotable(kind))
    assert (resumable(kind), promotable(kind)) == TABLE[kind.value.removeprefix("CHECKPOINT_TYPE_")]


@given(st.sampled_from(CheckpointKind), st.booleans())
def test_the_client_reads_the_same_table(kind: CheckpointKind, prefixed: bool) -> None:
    shown = kind.value if prefixed else kind.value.removeprefix("CHECKPOINT_TYPE_")
    assert read_row({"name": "x", "checkpointType": shown}).resumable == resumable(kind)


@pytest.mark.parametrize(
    ("saving", "wanted"), list(zip(SAVINGS, CHEAT_SHEET, strict=True)), ids=lambda value: str(value)[:60]
)
def test_the_cheat_sheet_follows_from_the_kinds(saving: object, wanted: tuple[bool, bool]) -> None:
    lora, full = saving.lora, saving.full  # type: ignore[attr-defined]
    assert (any(map(promotable, lora)), any(map(promotable, full))) == wanted
    assert CheckpointKind.INFERENCE_ARC_V2 not in lora
