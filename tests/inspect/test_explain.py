"""`ftsim explain` speaks about a row, across the three layers."""

import dataclasses
import json
from pathlib import Path

import pytest

from emulator.core.kinds import CAPABILITIES, CheckpointKind
from ftsim.inspect.explain import Explanation, Want, explain
from ftsim.inspect.listing import ListedRow, parse, read
from tests.conftest import Ftsim

ROWS = Path(__file__).parents[2] / "fixtures" / "rows"
K = CheckpointKind
BASE_SAVE = 'save_weights_for_sampler_ext("step-4", checkpoint_type="base")'
JOB = "accounts/acme/rlorTrainerJobs/sft-7/checkpoints/"


def listing(name: str) -> list[ListedRow]:
    return parse((ROWS / f"{name}.json").read_text())


def explained(name: str, identifier: str, want: Want | None = None) -> Explanation:
    rows = listing(name)
    return explain(next(row for row in rows if row.id == identifier), rows, want)


def row(kind: CheckpointKind, **facts: object) -> ListedRow:
    raw = {
        "name": f"{JOB}step-4",
        "checkpointType": kind.value,
        "promotable": CAPABILITIES[kind].promotable,
        "createTime": "2026-08-01T10:00:00Z",
    }
    return read(raw, facts)


@pytest.mark.parametrize(
    ("kind", "recipe", "sdk"),
    [
        (K.TRAINING, "resumable=True", "save_state"),
        (K.TRAINING_LORA, "resumable=True", "save_state"),
        (K.INFERENCE_BASE, "promotable=True", 'checkpoint_type="base" or "merged_base"'),
        (K.INFERENCE_LORA, "promotable=True", 'checkpoint_type="base" or "delta"'),
        (K.INFERENCE_ARC_V2, "neither", 'checkpoint_type="delta"'),
    ],
)
def test_each_layer_has_its_own_word(kind: CheckpointKind, recipe: str, sdk: str) -> None:
    found = explain(row(kind), [row(kind)])
    assert [layer.value for layer in found.layers] == [recipe, sdk, kind.value]


@pytest.mark.parametrize("kind", list(CheckpointKind))
@pytest.mark.parametrize("want", ["promote", "resume"])
def test_it_can_and_cannot_what_the_table_says(kind: CheckpointKind, want: Want) -> None:
    found = explain(row(kind), [row(kind)], want)
    able = CAPABILITIES[kind].promotable if want == "promote" else CAPABILITIES[kind].resumable
    (advice,) = found.advice
    assert advice.possible is able
    assert any("promoted" in line for line in found.can) is CAPABILITIES[kind].promotable
    assert any("resumed" in line for line in found.can) is CAPABILITIES[kind].resumable
    assert bool(advice.instead) is not able


@pytest.mark.parametrize(
    ("kind", "want", "recipe", "sdk"),
    [
        (K.TRAINING, "promote", "resumable=True, promotable=True", BASE_SAVE),
        (K.INFERENCE_ARC_V2, "promote", "promotable=True", BASE_SAVE),
        (K.INFERENCE_ARC_V2, "resume", "resumable=True, data_consumed=ROWS", 'save_state("step-4")'),
        (K.INFERENCE_LORA, "resume", "resumable=True, data_consumed=ROWS", 'save_state("step-4")'),
    ],
)
def test_it_names_the_one_call_that_would_have_done(kind: CheckpointKind, want: Want, recipe: str, sdk: str) -> None:
    (advice,) = explain(row(kind), [row(kind)], want).advice
    assert advice.call.startswith('TrainingCheckpoints.save("step-4", ')
    assert recipe in advice.call
    assert advice.instead == sdk


def test_a_delta_points_to_the_training_state_of_its_step_and_to_the_base() -> None:
    (advice,) = explained("full_with_deltas", "step-4-45dda197", "promote").advice
    base, again = advice.still
    assert "weight-sync-0123456789abcdef0123456789abcdef-45dda197" in base
    assert "other weights" in base
    assert 'load_state_with_optimizer("step-4")' in again


def test_a_training_row_points_to_the_sampler_row_of_its_step() -> None:
    (advice,) = explained("two_sessions", "step-10", "promote").advice
    assert "promote step-10-aaaaaaaa, of the same step by its name" in advice.still  # not the newest


def test_a_promotable_row_is_told_the_command() -> None:
    (advice,) = explained("two_sessions", "step-20-aaaaaaaa", "promote").advice
    assert advice.call.startswith("ftsim promote --job-id sft-7 --checkpoint-name step-20-aaaaaaaa ")


def test_what_the_emulator_recorded_beats_what_the_kind_suggests() -> None:
    merged = row(K.INFERENCE_BASE, saved_as="merged_base", lora_rank=8)
    layers = explain(merged, [merged]).layers
    assert layers[0].value == "neither"
    assert layers[1].value == 'checkpoint_type="merged_base"'
    ignored = row(K.INFERENCE_LORA, saved_as="delta", lora_rank=8)
    assert "which a LoRA job ignores" in explain(ignored, [ignored]).layers[1].meaning


@pytest.mark.parametrize(
    ("name", "facts", "recipe"),
    [
        ("step-4-45dda197", {}, "promotable=True"),
        ("sync-4-45dda197", {}, "neither"),
        (f"weight-sync-{'0' * 32}-45dda197", {}, "neither"),
        ("step-4-45dda197", {"loaded_by": ["d1"]}, "neither, or promotable=True"),
    ],
)
def test_a_weight_sync_is_known_by_its_name_or_by_its_load(name: str, facts: dict[str, object], recipe: str) -> None:
    found = read({"name": f"{JOB}{name}", "checkpointType": K.INFERENCE_LORA.value, "promotable": True}, facts)
    layers = explain(found, [found]).layers
    assert layers[0].value == recipe
    assert ("WeightSyncer" in layers[1].meaning) is (recipe != "promotable=True")


@pytest.mark.parametrize(
    ("listed", "identifier", "said"),
    [
        ("two_sessions", "step-10-bbbbbbbb", "step-10-aaaaaaaa: the same name saved by another session"),
        ("two_sessions", "step-10-aaaaaaaa", "-aaaaaaaa is the suffix of a client session, shared with 1 more"),
        ("two_sessions", "step-10-bbbbbbbb", "no other row shares it, so it may be part of the name"),
        ("unprefixed_and_gappy", "eval-20260401", "no other row shares it, so it may be part of the name"),
        ("unprefixed_and_gappy", "eval-20260401", "the kind normally is promotable: list again"),
        ("unprefixed_and_gappy", "step-3", "the row has no createTime"),
        ("unprefixed_and_gappy", "step-3", "absent means false (A14)"),
        ("unprefixed_and_gappy", "odd", "'yesterday' is no RFC 3339 time"),
        ("unprefixed_and_gappy", "step_9", "the SDK refuses to load this name"),
        ("unprefixed_and_gappy", "step_9", "the row says promotable=True, which its kind normally is not"),
        ("serverless", f"run-{'a' * 32}-step-5", "1 other runs are in the same list"),
        ("mixed_times", "step-2", "as text step-1 looks newest, in time it is step-2"),
        ("renamed", "step-0", "the trainer may have renamed the save to its own counter"),
        ("renamed", "step-12", "newest is not highest (D15)"),
    ],
)
def test_it_notes_what_is_odd_about_a_row(listed: str, identifier: str, said: str) -> None:
    assert any(said in note for note in explained(listed, identifier).notes)


@pytest.mark.parametrize(("listed", "identifier"), [("renamed", "step-10"), ("full_with_deltas", "step-4")])
def test_it_notes_nothing_about_an_ordinary_row(listed: str, identifier: str) -> None:
    assert explained(listed, identifier).notes == ()


def test_a_type_it_does_not_know_is_opaque_but_promotable_counts() -> None:
    found = explained("unprefixed_and_gappy", "odd")
    assert [layer.value for layer in found.layers] == ["unknown", "unknown", "CHECKPOINT_TYPE_INFERENCE_GGUF"]
    assert found.can == ("be promoted to a model",)


def test_a_runs_row_is_resumed_by_its_run_and_sampled_in_its_session() -> None:
    run = f"run-{'a' * 32}"
    state = explained("serverless", f"{run}-step-5", "resume")
    assert f'create_training_client_from_state_with_optimizer("acme/{run}/step-5")' in state.advice[0].call
    assert "be sampled" in state.cannot
    assert not any("refuses to load" in note for note in state.notes)
    assert (
        f'be sampled: service.create_sampling_client(model_path="acme/{run}/final")'
        in explained("serverless", f"{run}:final").can
    )


def test_rows_of_another_run_are_never_offered() -> None:
    (advice,) = explained("serverless", f"run-{'b' * 32}-step-5-1234abcd", "resume").advice
    assert not any("resume from" in line for line in advice.still)


def test_another_sessions_row_is_never_recommended_without_saying_so() -> None:
    rows = [row for row in listing("two_sessions") if row.id != "step-10-aaaaaaaa" and row.id != "step-20-aaaaaaaa"]
    later = dataclasses.replace(rows[0], id="step-30", name=rows[0].name.replace("step-10", "step-30"))
    moment = (rows[0].created or 0) + 60 * 10**9
    later = dataclasses.replace(later, created=moment)
    for row in (rows[0], later):  # a resume from an older step began the branch on which the other session saved
        (advice,) = explain(row, [rows[0], later, rows[1]], "promote").advice
        assert advice.still[0].startswith("promote step-10-bbbbbbbb")
        assert "it was saved by another session, on branch 2 of the run" in advice.still[0]


def test_a_sampler_row_of_its_own_session_goes_before_a_newer_one_of_another() -> None:
    rows = listing("two_sessions")
    delta = dataclasses.replace(rows[1], listed_promotable=False)
    (advice,) = explain(delta, [rows[0], delta, *rows[2:]], "promote").advice
    assert advice.still[0].startswith("promote step-20-aaaaaaaa, the newest promotable row of its session")
    (alone,) = explain(delta, [rows[0], delta, rows[3]], "promote").advice
    assert "saved by another session, -bbbbbbbb, maybe with other weights (A12)" in alone.still[0]


def test_a_cut_listing_is_named(ftsim: Ftsim, tmp_path: Path) -> None:
    saved = json.loads((ROWS / "two_sessions.json").read_text())
    file = tmp_path / "rows.json"
    file.write_text(json.dumps({**saved, "nextPageToken": "more"}))
    assert "names a next page that is not in it" in ftsim("explain", "step-20", "--from", str(file)).stdout
    assert "next page" not in ftsim("explain", "step-20", "--from", str(ROWS / "two_sessions.json")).stdout
