"""Programs of April and of November 2026 say the same things under other names, and run unchanged."""

from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from ftsim.training.errors import ConfigError
from ftsim.training.recipes import async_rl_loop, dpo_loop, igpo_loop, orpo_loop, rl_loop, sft_loop
from ftsim.training.utils import DeployConfig, InfraConfig, TrainerConfig, WeightSyncConfig

REQUIRED: dict[str, Any] = {
    "log_path": "./run",
    "base_model": "accounts/a/models/m",
    "dataset": "d.jsonl",
    "tokenizer_model": "t",
}
ALL = (sft_loop, dpo_loop, orpo_loop, rl_loop, async_rl_loop, igpo_loop)
SAMPLING = (rl_loop, async_rl_loop, igpo_loop)
SHAPE = "accounts/fireworks/trainingShapes/qwen3-8b-128k-h200"
# November's form, April's form, and the recipes that have both.
PAIRS: list[tuple[dict[str, Any], dict[str, Any], tuple[ModuleType, ...]]] = [
    ({"dcp_save_interval": 10}, {"weight_sync": WeightSyncConfig(dcp_save_interval=10)}, ALL),
    ({"weight_sync_interval": 2}, {"weight_sync": WeightSyncConfig(weight_sync_interval=2)}, SAMPLING),
    (
        {"weight_sync_before_training": True},
        {"weight_sync": WeightSyncConfig(weight_sync_before_training=True)},
        SAMPLING,
    ),
    ({"weight_sync_timeout": 9}, {"weight_sync": WeightSyncConfig(weight_sync_timeout=9)}, SAMPLING),
    ({"trainer": TrainerConfig(training_shape_id=SHAPE)}, {"infra": InfraConfig(training_shape_id=SHAPE)}, ALL),
    (
        {"trainer": TrainerConfig(region="eu", accelerator_count=8, node_count=2, trainer_timeout_s=60.0)},
        {"infra": InfraConfig(region="eu", accelerator_count=8, node_count=2, trainer_timeout_s=60.0)},
        ALL,
    ),
    ({"trainer": TrainerConfig(trainer_job_id="job")}, {"trainer_job_id": "job"}, ALL),
    ({"deployment": DeployConfig(deployment_id="mine")}, {"deployment_id": "mine"}, SAMPLING),
    ({"deployment": DeployConfig(replica_count=2)}, {"deployment_replicas": 2}, SAMPLING),
    (
        {"deployment": DeployConfig(deployment_shape="s", deployment_timeout_s=7.0)},
        {"infra": InfraConfig(deployment_shape_id="s", deployment_timeout_s=7.0)},
        SAMPLING,
    ),
    ({"evaluation_dataset": "e.jsonl"}, {"eval_dataset": "e.jsonl"}, (sft_loop, dpo_loop, orpo_loop)),
]
CASES = [(recipe, new, old) for new, old, recipes in PAIRS for recipe in recipes]
READ = ("infra", "weight_sync", "trainer_job_id", "deployment_id", "deployment_replicas", "eval_dataset")
"""Where the recipes look."""


def settings(config: Any) -> dict[str, Any]:
    return {name: getattr(config, name, None) for name in READ}


@pytest.mark.parametrize(("recipe", "new", "old"), CASES)
def test_both_forms_set_the_same(recipe: ModuleType, new: dict[str, Any], old: dict[str, Any]) -> None:
    config = recipe.Config(**REQUIRED, **new)
    assert settings(config) == settings(recipe.Config(**REQUIRED, **old)) != settings(recipe.Config(**REQUIRED))
    assert settings(replace(config)) == settings(config)
    assert settings(replace(config, **dict.fromkeys(new))) == settings(recipe.Config(**REQUIRED))


@pytest.mark.parametrize(("recipe", "new", "old"), CASES)
def test_one_setting_by_both_names_is_refused_even_when_they_agree(
    recipe: ModuleType, new: dict[str, Any], old: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match="two names of one setting: keep one of them"):
        recipe.Config(**REQUIRED, **new, **old)
    with pytest.raises(ConfigError, match="two names of one setting"):
        replace(recipe.Config(**REQUIRED, **old), **new)


def test_settings_that_have_one_name_only_go_with_either_form() -> None:
    config = sft_loop.Config(**REQUIRED, dcp_save_interval=4, weight_sync=WeightSyncConfig(checkpoint_prefix="mine"))
    assert (config.weight_sync.dcp_save_interval, config.weight_sync.checkpoint_prefix) == (4, "mine")
    again = replace(config, dcp_save_interval=2)
    assert (again.weight_sync.dcp_save_interval, again.weight_sync.checkpoint_prefix) == (2, "mine")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dcp_save_interval": -1}, r"dcp_save_interval must be 0 \(off\)"),
        ({"dcp_save_interval": "10"}, "dcp_save_interval must be a whole number or None"),
        ({"trainer": TrainerConfig(training_shape_id=SHAPE, node_count=2)}, "the shape decides it"),
        ({"trainer": {"region": "eu"}}, "trainer must be TrainerConfig or None"),
        ({"evaluation_dataset": "e.jsonl", "eval_split": 0.1}, "exclude each other"),
        ({"eval_auto_carveout": True}, "set eval_split"),
        ({"renderer_name": "qwen3"}, "rendered by the chat template"),
        ({"train_on_what": "all_tokens"}, "'all_tokens' is not one of .*: only what the assistant says is trained"),
        ({"train_on_what": "all_user_and_system_messages"}, "never what others tell it"),
        ({"pipeline_depth": -1}, "pipeline_depth must be at least 0"),
        ({"step_timeout": 0}, "step_timeout must be a positive number of seconds"),
        ({"restore_optimizer": True}, "restore_optimizer needs init_from_checkpoint"),
        ({"output_model_id": "m", "save_final_checkpoint": False}, "leave save_final_checkpoint at True"),
        ({"lr_scheduler": "cosin"}, "'constant', 'linear', 'cosine', 'wsd'"),
        ({"lr_scheduler": {"type": "linear", "warmup_steps": -1}}, r"linear\.warmup_steps Input should be greater"),
        ({"lr_scheduler": "cosine", "lr_schedule": "linear"}, "keep one form"),
        ({"lr_scheduler": "cosine", "warmup_steps": 3}, "keep one form"),
    ],
)
def test_a_setting_of_november_that_cannot_be_kept_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sft_loop.Config(**REQUIRED, **fields)
