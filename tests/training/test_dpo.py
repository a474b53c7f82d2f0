"""The DPO recipe from end to end: nothing pretended, killed anywhere, compared with what it is always compared with."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from emulator.server import Emulator
from ftsim.training.errors import CheckpointError, ConfigError
from ftsim.training.recipes import dpo_loop, sft_loop
from ftsim.training.trainers import connect, job_id_for
from tests.sdk import BACKGROUND
from tests.training.interrupts import interrupt
from tests.training.preference_runs import (
    BASE,
    STEPS,
    calls_of,
    check_interruptions,
    configure,
    job_of,
    metrics,
    nth,
    remains,
)
from tests.training.runs import kill_after, run_to_end


@pytest.mark.parametrize(
    ("lora_rank", "count"), [(8, 1), (0, 1), *(pytest.param(rank, 10, marks=pytest.mark.slow) for rank in (8, 0))]
)
def test_a_run_interrupted_anywhere_ends_like_one_that_was_not(
    emulator: Emulator, tmp_path: Path, tokenizer_folder: Path, lora_rank: int, count: int
) -> None:
    configured = partial(configure, dpo_loop, tmp_path, tokenizer_folder, lora_rank=lora_rank)
    left = check_interruptions(emulator, dpo_loop, "dpo", configured, count, seed=lora_rank + count)
    assert [entry["step"] for entry in left["metrics"] if "loss" in entry] == [1, 2, 3, 4, 5, 6]
    assert left["cursor"] == 24  # of 13 rows one is held out, and the one too long is counted though not trained on


@pytest.mark.slow
def test_a_killed_process_is_continued(emulator: Emulator, tmp_path: Path, tokenizer_folder: Path) -> None:
    quiet, killed = (configure(dpo_loop, tmp_path, tokenizer_folder, name, lora_rank=8) for name in ("quiet", "killed"))
    dpo_loop.main(quiet)
    assert kill_after(killed, emulator, 3) < STEPS
    run_to_end(killed, emulator)
    assert remains(emulator, "dpo", killed) == remains(emulator, "dpo", quiet)


@pytest.mark.parametrize("lora_rank", [8, 0])
def test_a_lost_reference_is_made_again_from_the_base_model(
    emulator: Emulator, tmp_path: Path, tokenizer_folder: Path, lora_rank: int
) -> None:
    """With LoRA beside the policy; a full-parameter run asks a forward-only trainer, which is released at once."""
    whole = configure(dpo_loop, tmp_path, tokenizer_folder, "whole", lora_rank=lora_rank)
    calls = calls_of(dpo_loop, whole)
    expected = remains(emulator, "dpo", whole)
    half = configure(dpo_loop, tmp_path, tokenizer_folder, "half", lora_rank=lora_rank)
    interrupt(dpo_loop.main, half, nth(calls, "optim_step", 3), after=True)
    reference = Path(half.log_path) / "reference.json"
    kept = json.loads(reference.read_text())
    reference.unlink()
    result = dpo_loop.main(half)
    assert result["resumed_from"] == "step-2"
    assert json.loads(reference.read_text()) == kept
    assert remains(emulator, "dpo", half) == expected
    helper = connect().try_get(job_id_for("reference", half.log_path))
    if lora_rank:
        assert helper is None
        assert any(json.loads(exchange.request).get("base_only") for exchange in emulator.journal.of("create_model"))
    else:
        assert helper is not None
        assert helper["forwardOnly"] is True
        assert helper["state"] == "JOB_STATE_CANCELLED"


def test_the_reference_of_a_fine_tuned_start_is_that_start(
    emulator: Emulator, tmp_path: Path, tokenizer_folder: Path
) -> None:
    parent = sft_loop.Config(
        log_path=str(tmp_path / "parent"),
        base_model=BASE,
        dataset=str(_chosen_only(tmp_path)),
        tokenizer_model=str(tokenizer_folder),
        learning_rate=1e-3,
        epochs=1,
    )
    ref = f"{sft_loop.main(parent)['job_id']}:step-2"

    def started(name: str, **more: Any) -> Any:
        return configure(dpo_loop, tmp_path, tokenizer_folder, name, init_from_checkpoint=ref, **more)

    assert dpo_loop.main(started("tuned"))["resumed_from"] == ref
    assert metrics(started("tuned"))[0]["eval_margin"] == pytest.approx(0, abs=1e-4)
    dpo_loop.main(started("base", reference="base"))
    assert metrics(started("base"))[0]["eval_margin"] > 0.1  # the start already prefers what it was tuned on

    (Path(started("tuned").log_path) / "reference.json").write_text("{}")
    with pytest.raises(CheckpointError, match=f"the policy is no longer {ref}"):
        dpo_loop.main(replace(started("tuned"), epochs=3))


def _chosen_only(folder: Path) -> Path:
    from ftsim.compute import data

    path = folder / "chosen.jsonl"
    lines = data.path("preference-train").read_text("utf-8").splitlines()[:16]
    path.write_text("".join(json.dumps(json.loads(line)["chosen"]) + "\n" for line in lines))
    return path


@pytest.mark.parametrize(("lora_rank", "kind"), [(0, "HF_BASE_MODEL"), (8, "HF_PEFT_ADDON")])
def test_a_run_learns_promotes_and_then_changes_nothing(
    emulator: Emulator, tmp_path: Path, tokenizer_folder: Path, lora_rank: int, kind: str
) -> None:
    config = configure(dpo_loop, tmp_path, tokenizer_folder, lora_rank=lora_rank, output_model_id="preferring")
    result = dpo_loop.main(config)
    assert (result["model"] or {})["kind"] == kind
    trained = [entry for entry in metrics(config) if "loss" in entry]
    assert trained[0]["loss"] == pytest.approx(0.6931, abs=1e-3)  # log 2: nothing is preferred yet
    assert trained[0]["accuracy"] == 0.5
    assert trained[-1]["loss"] < 0.6
    assert trained[-1]["accuracy"] == 1
    listed = {row["name"].rsplit("/", 1)[-1] for row in connect().list_checkpoints(job_of("dpo", config))}
    assert {"step-2", "step-4", "step-6"} < listed
    for picture in ("loss.svg", "accuracy.svg"):
        assert (Path(config.log_path) / picture).stat().st_size > 1000

    emulator.journal.clear()
    assert dpo_loop.main(config)["model"] == result["model"]
    assert {asked.method for asked in emulator.journal if asked.endpoint not in BACKGROUND} == {"GET"}


def test_micro_batches_add_up_to_the_whole_batch(emulator: Emulator, tmp_path: Path, tokenizer_folder: Path) -> None:
    whole, parts = (
        configure(
            dpo_loop, tmp_path, tokenizer_folder, f"{size}", batch_size=size, gradient_accumulation_steps=4 // size
        )
        for size in (4, 2)
    )
    for config in (whole, parts):
        dpo_loop.main(config)
    for one, other in zip(metrics(whole), metrics(parts), strict=True):
        assert one == pytest.approx(other, rel=2e-3, abs=1e-5)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("beta", -1.0, "beta must be at least 0"),
        ("label_smoothing", 0.5, "label_smoothing must be below 0.5"),
        ("reference", "nobody", "reference 'nobody' is not one of base, start"),
        ("eval_split", 1.0, "eval_split must be below 1"),
    ],
)
def test_a_configuration_that_cannot_run_is_refused(tmp_path: Path, field: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        configure(dpo_loop, tmp_path, tmp_path, **{field: value})
