"""Every field that the pages name, of either date, in every recipe: it is taken, or it is refused by name."""

from types import ModuleType
from typing import Any

import pytest

from ftsim.cli import overrides
from ftsim.training.config_forms import ELSEWHERE
from ftsim.training.errors import ConfigError
from ftsim.training.recipes import async_rl_loop, dpo_loop, igpo_loop, orpo_loop, rl_loop, sft_loop
from ftsim.training.utils import DeployConfig, InfraConfig, TrainerConfig, WeightSyncConfig

REQUIRED: dict[str, Any] = {
    "log_path": "./run",
    "base_model": "accounts/a/models/m",
    "dataset": "d.jsonl",
    "tokenizer_model": "t",
}
BATCHES = (sft_loop, dpo_loop, orpo_loop)
SAMPLING = (rl_loop, async_rl_loop, igpo_loop)
ALL = (*BATCHES, *SAMPLING)
NONE: tuple[ModuleType, ...] = ()

TABLE: list[tuple[str, dict[str, Any], tuple[ModuleType, ...]]] = [
    # April
    ("weight_sync", {"weight_sync": WeightSyncConfig(dcp_save_interval=10)}, ALL),
    ("infra", {"infra": InfraConfig(training_shape_id="s")}, ALL),
    ("output_model_id", {"output_model_id": "m"}, ALL),
    ("init_from_checkpoint", {"init_from_checkpoint": "job:step-4"}, ALL),
    ("warm_start_from_adapter", {"warm_start_from_adapter": "accounts/a/models/m", "lora_rank": 4}, ALL),
    ("lora_rank", {"lora_rank": 4}, ALL),
    ("serverless", {"serverless": True, "lora_rank": 4}, ALL),
    # November: renamed
    ("dcp_save_interval", {"dcp_save_interval": 10}, ALL),
    ("weight_sync_interval", {"weight_sync_interval": 2}, SAMPLING),
    ("weight_sync_before_training", {"weight_sync_before_training": True}, SAMPLING),
    ("weight_sync_timeout", {"weight_sync_timeout": 9}, SAMPLING),
    ("trainer", {"trainer": TrainerConfig(training_shape_id="s")}, ALL),
    ("deployment", {"deployment": DeployConfig(deployment_id="d")}, SAMPLING),
    # November: options of the loops
    ("save_final_checkpoint", {"save_final_checkpoint": False}, ALL),
    ("pipeline_depth", {"pipeline_depth": 2}, (sft_loop,)),
    ("step_timeout", {"step_timeout": 5.0}, ALL),
    ("evaluation_dataset", {"evaluation_dataset": "e.jsonl"}, BATCHES),
    ("eval_auto_carveout", {"eval_auto_carveout": True}, NONE),
    ("group_by_length", {"group_by_length": True}, BATCHES),
    ("lr_scheduler", {"lr_scheduler": "cosine"}, ALL),
    ("renderer_name", {"renderer_name": "qwen3"}, NONE),
    ("train_on_what", {"train_on_what": "last_assistant_message"}, (sft_loop,)),
    ("tokenizer_revision", {"tokenizer_revision": "main"}, ALL),
    ("restore_optimizer", {"restore_optimizer": True, "init_from_checkpoint": "job:step-4"}, ALL),
]
CELLS = [(recipe, name, given, recipe in takes) for name, given, takes in TABLE for recipe in ALL]


@pytest.mark.parametrize(("recipe", "name", "given", "taken"), CELLS)
def test_a_field_is_taken_or_refused_by_its_name(
    recipe: ModuleType, name: str, given: dict[str, Any], taken: bool
) -> None:
    if taken:
        assert getattr(recipe.Config(**REQUIRED, **given), name) == given[name] != getattr(recipe.Config, name, None)
        return
    refusal = rf"^{name} .{{30,}}"
    with pytest.raises(ConfigError, match=refusal):
        recipe.Config(**REQUIRED, **given)
    with pytest.raises(ConfigError, match=refusal):
        overrides.build(recipe.Config, REQUIRED | given)


def test_what_is_refused_elsewhere_is_taken_somewhere() -> None:
    somewhere = {field for recipe in ALL for field in recipe.Config.__dataclass_fields__}
    everywhere = {field for field in somewhere if all(field in recipe.Config.__dataclass_fields__ for recipe in ALL)}
    assert ELSEWHERE.keys() <= somewhere - everywhere


def test_a_field_that_nobody_knows_is_python_s_to_refuse() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'learning_rat'"):
        sft_loop.Config(**REQUIRED | {"learning_rat": 1.0})
