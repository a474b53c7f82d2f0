"""The ORPO recipe from end to end."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from emulator.server import Emulator
from ftsim.training.errors import ConfigError, DataError
from ftsim.training.recipes import orpo_loop
from tests.sdk import BACKGROUND
from tests.training.preference_runs import STEPS, check_interruptions, configure, metrics, remains
from tests.training.runs import kill_after, run_to_end


@pytest.mark.parametrize(
    ("lora_rank", "count"), [(8, 1), (0, 1), *(pytest.param(rank, 10, marks=pytest.mark.slow) for rank in (8, 0))]
)
def test_a_run_interrupted_anywhere_ends_like_one_that_was_not(
    emulator: Emulator, tmp_path: Path, tokenizer_folder: Path, lora_rank: int, count: int
) -> None:
    configured = partial(configure, orpo_loop, tmp_path, tokenizer_folder, lora_rank=lora_rank)
    left = check_interruptions(emulator, orpo_loop, "orpo", configured, count, seed=lora_rank + count)
    assert [entry["step"] for entry in left["metrics"] if "loss" in entry] == [1, 2, 3, 4, 5, 6]
    assert len({entry["lr"] for entry in left["metrics"] if "lr" in entry}) > 3


@pytest.mark.slow
def test_a_killed_process_is_continued(emulator: Emulator, tmp_path: Path, tokenizer_folder: Path) -> None:
    quiet, killed = (configure(orpo_loop, tmp_path, tokenizer_folder, name) for name in ("quiet", "killed"))
    orpo_loop.main(quiet)
    assert kill_after(killed, emulator, 3) < STEPS
    run_to_end(killed, emulator)
    assert remains(emulator, "orpo", killed) == remains(emulator, "orpo", quiet)


@pytest.mark.parametrize(("lora_rank", "kind"), [(0, "HF_BASE_MODEL"), (8, "HF_PEFT_ADDON")])
def test_a_run_learns_promotes_and_needs_no_reference(
    emulator: Emulator, tmp_path: Path, tokenizer_folder: Path, lora_rank: int, kind: str
) -> None:
    config = configure(orpo_loop, tmp_path, tokenizer_folder, lora_rank=lora_rank, output_model_id="preferring")
    result = orpo_loop.main(config)
    assert (result["model"] or {})["kind"] == kind
    trained = [entry for entry in metrics(config) if "loss" in entry]
    assert trained[-1]["nll"] < trained[0]["nll"] / 1.2
    for entry in trained:
        assert entry["loss"] == pytest.approx(entry["nll"] + config.odds_weight * entry["odds_loss"], rel=1e-5)
    assert len(emulator.journal.of("create_model")) == 1
    assert not (Path(config.log_path) / "reference.json").exists()

    emulator.journal.clear()
    assert orpo_loop.main(config)["model"] == result["model"]
    assert {asked.method for asked in emulator.journal if asked.endpoint not in BACKGROUND} == {"GET"}


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ({"odds_weight": -1.0}, ConfigError, "odds_weight must be at least 0"),
        ({"eval_split": 1.0}, ConfigError, "eval_split must be below 1"),
        ({"eval_dataset": "x.jsonl"}, ConfigError, "exclude each other"),
        ({"max_examples": 1, "eval_split": 0.9}, DataError, "leaves nothing to train on"),
        ({"max_seq_len": 4}, DataError, "no pair has two answers to compare within 4 tokens"),
    ],
)
def test_what_cannot_run_creates_no_job(
    emulator: Emulator, tmp_path: Path, tokenizer_folder: Path, more: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        orpo_loop.main(configure(orpo_loop, tmp_path, tokenizer_folder, **more))
    assert not emulator.journal.of("create_job")
