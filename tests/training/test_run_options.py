"""Options of a run beside its data and its loss: how it starts, what it keeps, how its rows are grouped."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from emulator.server import Emulator
from ftsim.training.errors import CheckpointError, ConfigError
from ftsim.training.recipes import sft_loop
from ftsim.training.trainers import job_id_for
from ftsim.training.utils import WeightSyncConfig
from tests.training.interrupts import counting, interrupt
from tests.training.runs import files, rows
from tests.training.test_sft_end_to_end import configure, metrics

STEPS = 12
CHOICES: dict[str, dict[str, Any]] = {
    "default": {},
    "fresh": {"restore_optimizer": False},
    "kept": {"restore_optimizer": True},
}


def state(emulator: Emulator, config: Any, name: str) -> dict[str, bytes]:
    return files(rows(emulator, job_id_for("sft", config.log_path))[name], "*.distcp")


def test_a_run_that_starts_from_a_checkpoint_takes_its_optimizer_when_told(
    emulator: Emulator, tmp_path: Path, tokenizer_folder: Path
) -> None:
    """The page promises a fresh optimizer, the platform's own recipes restore it: here the default is the page's."""
    parent = configure(tmp_path, tokenizer_folder, "parent", lora_rank=4, max_examples=8, epochs=1)
    sft_loop.main(parent)
    source = f"{job_id_for('sft', parent.log_path)}:step-2"
    ends = {}
    for name, choice in CHOICES.items():
        more: dict[str, Any] = {"log_path": str(tmp_path / name), "init_from_checkpoint": source}
        more |= {"max_examples": 4, "warmup_steps": 0} | choice
        config = dataclasses.replace(parent, **more)
        result = sft_loop.main(config)
        assert (result["steps"], result["resumed_from"]) == (1, source)
        ends[name] = state(emulator, config, "step-1")
    assert ends["default"] == ends["fresh"] != ends["kept"]


def test_without_a_final_save_a_rerun_trains_what_no_checkpoint_holds(
    emulator: Emulator, tmp_path: Path, tokenizer_folder: Path
) -> None:
    config = configure(tmp_path, tokenizer_folder, lora_rank=4, dcp_save_interval=5, weight_sync=WeightSyncConfig())
    config = dataclasses.replace(config, save_final_checkpoint=False)
    for taken in (STEPS, STEPS - 10):
        with counting() as calls:
            assert sft_loop.main(config)["model"] is None
        assert calls.made.count("optim_step") == taken
        assert set(rows(emulator, job_id_for("sft", config.log_path))) == {"step-5", "step-10"}
    assert [entry["step"] for entry in metrics(config)] == list(range(1, STEPS + 1))


def test_a_run_with_rows_grouped_by_length_resumes_exactly_and_keeps_to_its_grouping(
    emulator: Emulator, tmp_path: Path, tokenizer_folder: Path
) -> None:
    def configured(name: str) -> sft_loop.Config:
        return configure(tmp_path, tokenizer_folder, name, lora_rank=4, group_by_length=True, pipeline_depth=3)

    quiet, killed = configured("quiet"), configured("killed")
    with counting() as calls:
        sft_loop.main(quiet)
    fifth = [number for number, name in enumerate(calls.made) if name == "optim_step"][4]
    interrupt(sft_loop.main, killed, fifth, after=True)
    with pytest.raises(CheckpointError, match=r"^group_by_length changed since"):
        sft_loop.main(dataclasses.replace(killed, group_by_length=False))
    sft_loop.main(killed)
    assert state(emulator, killed, f"step-{STEPS}") == state(emulator, quiet, f"step-{STEPS}")
    plain = configure(tmp_path, tokenizer_folder, "plain", lora_rank=4)
    sft_loop.main(plain)
    assert state(emulator, plain, f"step-{STEPS}") != state(emulator, quiet, f"step-{STEPS}")


def test_a_schedule_that_trains_nothing_is_refused_before_anything_is_made(
    emulator: Emulator, tmp_path: Path, tokenizer_folder: Path
) -> None:
    """The SDK's schedules end at the rate 0, and the only step of a run is its last."""
    config = configure(
        tmp_path,
        tokenizer_folder,
        max_examples=2,
        epochs=1,
        lr_schedule="constant",
        warmup_steps=0,
        lr_scheduler="cosine",
    )
    with pytest.raises(ConfigError, match="rate 0 to all of the 1 steps"):
        sft_loop.main(config)
    assert not list(emulator.world.jobs)


def test_the_sdk_s_schedule_gives_the_rates(emulator: Emulator, tmp_path: Path, tokenizer_folder: Path) -> None:
    config = configure(
        tmp_path,
        tokenizer_folder,
        lora_rank=4,
        lr_schedule="constant",
        warmup_steps=0,
        lr_scheduler={"type": "linear", "min_lr_ratio": 0.5},
    )
    sft_loop.main(config)
    rates = [entry["lr"] for entry in metrics(config)]
    assert rates == pytest.approx([1e-3 * (1 - 0.5 * step / STEPS) for step in range(1, STEPS + 1)])
