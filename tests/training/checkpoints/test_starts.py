"""A new run's start is looked up before anything is made for it, by every recipe alike."""

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fireworks.training.sdk import TrainerJobConfig

from emulator.server import Emulator
from ftsim.training.checkpoints import starts
from ftsim.training.checkpoints.starts import check_start
from ftsim.training.errors import CheckpointError, ConfigError
from ftsim.training.recipes import dpo_loop, igpo_loop, orpo_loop, rl_loop, sft_loop
from ftsim.training.trainers import connect, training_client
from tests.training import preference_runs, rl_runs
from tests.training.fakes import FakePlane
from tests.training.test_sft_end_to_end import configure as configure_sft

CONFIGURE: dict[ModuleType, Any] = {
    sft_loop: lambda *arguments, **more: configure_sft(*arguments, **(more | {"max_examples": 4, "epochs": 1})),
    **{
        recipe: lambda *a, recipe=recipe, **more: preference_runs.configure(recipe, *a, **more)
        for recipe in (dpo_loop, orpo_loop)
    },
    **{
        recipe: lambda *a, recipe=recipe, **more: rl_runs.configure(recipe, *a, **more)
        for recipe in (rl_loop, igpo_loop)
    },
}
BASE = "accounts/fireworks/models/qwen3-8b"
OTHER = "accounts/fireworks/models/qwen3-4b"
NAMES = [recipe.__name__.rpartition(".")[2] for recipe in CONFIGURE]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starts, "LIST_WAIT_S", 0.0)


@pytest.fixture
def parent(emulator: Emulator, tmp_path: Path, tokenizer_folder: Path) -> str:
    """A full-parameter job with `step-1` in both kinds, and an adapter `adapter` of rank 4."""
    manager = connect()
    for job_id, rank in (("parent", 0), ("small", 4)):
        config = configure_sft(tmp_path, tokenizer_folder, job_id, lora_rank=rank, trainer_job_id=job_id)
        manager.create_and_wait(TrainerJobConfig(base_model=BASE, lora_rank=rank, requested_job_id=job_id))
        with training_client(manager, config, job_id, 64) as client:
            client.save_state("step-1").result()
            client.save_weights_for_sampler_ext("sampler", checkpoint_type="base")
    row = next(row for row in manager.list_checkpoints("small") if row.get("promotable"))
    manager.promote_checkpoint(name=row["name"], output_model_id="adapter", base_model=BASE)
    emulator.journal.clear()
    return "parent"


def refuse(recipe: ModuleType, config: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe.main(config)


@pytest.mark.parametrize("recipe", CONFIGURE, ids=NAMES)
def test_no_recipe_makes_a_job_for_a_start_that_is_not_there_or_does_not_fit(
    parent: str, emulator: Emulator, tmp_path: Path, tokenizer_folder: Path, recipe: ModuleType
) -> None:
    def wanting(**start: Any) -> Any:
        return CONFIGURE[recipe](tmp_path, tokenizer_folder, **start)

    sampler = next(row["name"] for row in connect().list_checkpoints(parent) if row.get("promotable"))
    for start, message in (
        ({"init_from_checkpoint": "nojob:step-1"}, "the account has no trainer job nojob"),
        ({"init_from_checkpoint": "parent:step-999"}, "step-999 is not listed; resumable rows of parent: step-1$"),
        ({"init_from_checkpoint": f"parent:{sampler.rpartition('/')[2]}"}, "holds no training state"),
        ({"init_from_checkpoint": "parent:step-1", "lora_rank": 8}, "has LoRA rank 0.*set lora_rank=0"),
        ({"init_from_checkpoint": "small:step-1"}, "has LoRA rank 4.*set lora_rank=4"),
        ({"init_from_checkpoint": "parent:step-1", "base_model": OTHER}, f"is of {BASE}.*set base_model"),
        ({"warm_start_from_adapter": "accounts/local/models/none", "lora_rank": 4}, "there is no model"),
        ({"warm_start_from_adapter": BASE, "lora_rank": 4}, "is a HF_BASE_MODEL, not an adapter"),
        ({"warm_start_from_adapter": "accounts/local/models/adapter", "lora_rank": 8}, "rank 4.*set lora_rank=4"),
        ({"trainer_job_id": "mistyped"}, "trainer_job_id names 'mistyped', which the account has not"),
    ):
        refuse(recipe, wanting(**start), message)
    assert not emulator.journal.of("create_job")
    assert not emulator.journal.of("create_deployment")


def test_the_corrected_configuration_trains_in_the_same_log_path(
    parent: str, emulator: Emulator, tmp_path: Path, tokenizer_folder: Path
) -> None:
    wrong = CONFIGURE[sft_loop](tmp_path, tokenizer_folder, lora_rank=8, init_from_checkpoint="parent:step-1")
    refuse(sft_loop, wrong, "set lora_rank=0")
    right = CONFIGURE[sft_loop](tmp_path, tokenizer_folder, init_from_checkpoint="parent:step-1")
    assert sft_loop.main(right)["resumed_from"] == "parent:step-1"


def test_a_run_with_rows_of_its_own_goes_on_when_what_it_started_from_is_gone(
    parent: str, emulator: Emulator, tmp_path: Path, tokenizer_folder: Path
) -> None:
    config = CONFIGURE[sft_loop](tmp_path, tokenizer_folder, init_from_checkpoint="parent:step-1")
    sft_loop.main(config)
    gone = replace(config, init_from_checkpoint="nojob:step-1", epochs=2)
    assert str(sft_loop.main(gone)["resumed_from"]).startswith("step-")


class Plane(FakePlane):
    """A control plane whose jobs say nothing about themselves."""

    def try_get(self, job_id: str) -> dict[str, Any] | None:
        return {}


def wanted(**fields: Any) -> sft_loop.Config:
    required = {"log_path": "run", "base_model": BASE, "dataset": "d", "tokenizer_model": "t"}
    return sft_loop.Config(**(required | {"init_from_checkpoint": "sft-job:step-1"} | fields))


@pytest.mark.parametrize(("kind", "rank", "told"), [("TRAINING", 8, "lora_rank=0"), ("TRAINING_LORA", 0, "its rank")])
def test_the_kind_of_a_row_tells_what_its_job_does_not(kind: str, rank: int, told: str) -> None:
    plane: Any = Plane()
    plane.add("step-1", kind)
    with pytest.raises(ConfigError, match=told):
        check_start(plane, wanted(lora_rank=rank))
    check_start(plane, wanted(lora_rank=8 - rank))


def test_a_row_that_is_listed_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A6."""
    monkeypatch.setattr(starts, "LIST_WAIT_S", 10.0)
    plane: Any = Plane(lag=3)
    plane.add("step-1")
    slept: list[float] = []
    check_start(plane, wanted(), sleep=slept.append)
    assert slept


def test_a_list_that_cannot_be_read_is_not_taken_for_an_empty_one() -> None:
    unlisted: Any = Plane(fail_list=RuntimeError("down"))
    with pytest.raises(CheckpointError, match="cannot be listed: down"):
        check_start(unlisted, wanted())
