"""Several runs on one trainer job: their names stay apart, and none is lost at its last save (C14, C24)."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fireworks.training.sdk import TrainerJobConfig
from fireworks.training.sdk.client import FiretitanTrainingClient

from emulator.server import Emulator
from ftsim.training.errors import CheckpointError, ConfigError, TrainerError
from ftsim.training.recipes import dpo_loop, rl_loop, sft_loop
from ftsim.training.trainers import connect
from ftsim.training.utils import WeightSyncConfig
from tests.training.checkpoints.test_starts import BASE, CONFIGURE
from tests.training.interrupts import interrupt
from tests.training.runs import rows

SHARED = {"lora_rank": 8, "trainer_job_id": "shared", "epochs": 1, "max_examples": 6}


@pytest.fixture
def configured(emulator: Emulator, tmp_path: Path, tokenizer_folder: Path) -> Any:
    """Configurations for a job that exists, on which an SFT run of two steps has been made."""
    connect().create_and_wait(TrainerJobConfig(base_model=BASE, lora_rank=8, requested_job_id="shared"))

    def make(recipe: Any, name: str, **more: Any) -> Any:
        fields = SHARED | {"weight_sync": WeightSyncConfig(dcp_save_interval=1)} | more
        return CONFIGURE[recipe](tmp_path, tokenizer_folder, name, **fields)

    sft_loop.main(make(sft_loop, "sft", gradient_accumulation_steps=1, output_model_id="first"))
    emulator.journal.clear()
    return make


def states(emulator: Emulator) -> list[str]:
    return [name for name in rows(emulator, "shared") if name.rpartition("-")[2].isdecimal() and "step" in name[-7:]]


@pytest.mark.parametrize(("recipe", "phase"), [(dpo_loop, "dpo"), (rl_loop, "rl")])
def test_a_later_phase_saves_under_names_of_its_own_and_goes_on_from_them(
    emulator: Emulator, configured: Any, capsys: pytest.CaptureFixture[str], recipe: Any, phase: str
) -> None:
    before = states(emulator)
    assert before == ["sft-step-1", "sft-step-2"]
    config = configured(recipe, phase, init_from_checkpoint="shared:sft-step-2", output_model_id="second")
    interrupt(recipe.main, config, 1, after=False, watched=[(FiretitanTrainingClient, "save_state")])
    assert f"{phase} starts with the weights of shared:sft-step-2\n" in capsys.readouterr().err
    result = recipe.main(config)
    assert f"{phase} goes on from {phase}-step-1 after " in capsys.readouterr().err
    assert result["resumed_from"] == f"{phase}-step-1"
    assert states(emulator) == [*before, *(f"{phase}-step-{step}" for step in range(1, result["steps"] + 1))]
    assert f"/{phase}-step-{result['steps']}-" in result["model"]["importedFrom"]
    first = configured(sft_loop, "sft", gradient_accumulation_steps=1, output_model_id="first")
    assert sft_loop.main(first)["resumed_from"] is None  # it is complete, whatever came later
    with pytest.raises(TrainerError, match="has loraRank 8, the configuration says 4"):
        sft_loop.main(replace(first, lora_rank=4))


@pytest.mark.parametrize("interval", [1, 0])
def test_a_phase_whose_names_are_taken_is_refused_before_its_first_step(
    emulator: Emulator, configured: Any, interval: int
) -> None:
    clash = WeightSyncConfig(dcp_save_interval=interval, checkpoint_prefix="sft")
    config = configured(dpo_loop, "dpo", init_from_checkpoint="shared:sft-step-2", weight_sync=clash)
    with pytest.raises(CheckpointError, match=r"already has a checkpoint 'sft-step-.*weight_sync\.checkpoint_prefix"):
        dpo_loop.main(config)
    assert not emulator.journal.of("forward")
    assert not emulator.journal.of("optim_step")
    mended = replace(config, weight_sync=replace(clash, checkpoint_prefix="second"))
    assert dpo_loop.main(mended)["steps"] >= 2
    assert "second-step-2" in rows(emulator, "shared")


@pytest.mark.parametrize("prefix", ["Upper", "-dpo", "dpo-", "a" * 33, "a b"])
def test_a_prefix_that_no_checkpoint_may_have_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigError, match=r"weight_sync\.checkpoint_prefix"):
        WeightSyncConfig(checkpoint_prefix=prefix)
