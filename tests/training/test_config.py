from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ftsim.training.errors import ConfigError
from ftsim.training.recipes import igpo_loop
from ftsim.training.recipes.sft_loop import Config
from ftsim.training.utils import InfraConfig, WeightSyncConfig

REQUIRED: dict[str, Any] = {
    "log_path": "./run",
    "base_model": "accounts/a/models/m",
    "dataset": "d.jsonl",
    "tokenizer_model": "t",
}


def test_the_documented_fields_make_a_configuration() -> None:
    config = Config(
        **REQUIRED,
        output_model_id="qwen3-8b-finetuned",
        weight_sync=WeightSyncConfig(dcp_save_interval=10),
        infra=InfraConfig(training_shape_id="accounts/fireworks/trainingShapes/qwen3-8b-128k-h200"),
    )
    assert config.init_from_checkpoint is None
    assert Config(**REQUIRED).weight_sync.dcp_save_interval == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"log_path": ""}, "log_path is required"),
        ({"tokenizer_model": " "}, "tokenizer_model is required"),
        ({"output_model_id": "-lead"}, "no hyphen at either end"),
        ({"output_model_id": "trail-"}, "no hyphen at either end"),
        ({"output_model_id": "Upper"}, "not a model id"),
        ({"output_model_id": "x" * 64}, "not a model id"),
        ({"output_model_id": ""}, "not a model id"),
        ({"output_model_id": "new\n"}, "not a model id"),
        ({"trainer_job_id": "accounts/a/rlorTrainerJobs/j"}, "short job id"),
        ({"init_from_checkpoint": "step-4"}, "job-id:checkpoint-name"),
        ({"init_from_checkpoint": "gs://bucket/x"}, "job-id:checkpoint-name"),
        ({"init_from_checkpoint": "job:a/b"}, "job-id:checkpoint-name"),
        (
            {"init_from_checkpoint": "job:step-4", "warm_start_from_adapter": "accounts/a/models/m", "lora_rank": 8},
            "exclude each other",
        ),
        ({"warm_start_from_adapter": "accounts/a/models/m"}, "needs a LoRA run"),
        ({"eval_split": 0.1, "eval_dataset": "e.jsonl"}, "exclude each other"),
        ({"eval_split": 1.0}, "below 1"),
        ({"lr_schedule": "wsd"}, "not one of constant, cosine, linear"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"learning_rate": float("nan")}, "learning_rate must be at least 0"),
        ({"learning_rate": float("inf")}, "learning_rate must be finite"),
        ({"lora_rank": 8, "lora_alpha": 0}, "lora_alpha must be at least 1"),
        ({"beta1": -0.1}, "beta1 must be at least 0"),
        ({"beta2": 1.0}, "beta2 must be below 1"),
        ({"eps": 0.0}, "eps must be above 0"),
        ({"weight_decay": float("nan")}, "weight_decay must be at least 0"),
        ({"grad_clip_norm": -1.0}, "grad_clip_norm must be at least 0"),
        ({"seed": 2**63}, "seed must fit in 64 bits"),
        ({"min_lr_ratio": 2.0}, "between 0 and 1"),
        ({"max_seq_len": 1}, "max_seq_len must be at least 2"),
        ({"warm_start_from_adapter": "tuned", "lora_rank": 8}, "not the full name of a promoted adapter"),
        ({"epochs": "3"}, "epochs must be a whole number, not '3'"),
        ({"epochs": 2.5}, "epochs must be a whole number, not 2.5"),
        ({"batch_size": None}, "batch_size must be a whole number, not None"),
        ({"learning_rate": "1e-4"}, "learning_rate must be a number, not '1e-4'"),
        ({"truncate": "no"}, "truncate must be True or False, not 'no'"),
        ({"seed": True}, "seed must be a whole number, not True"),
        ({"log_path": 3}, "log_path must be text, not 3"),
        ({"output_model_id": 7}, "output_model_id must be text or None, not 7"),
        ({"max_seq_len": "64"}, "max_seq_len must be a whole number or None, not '64'"),
        ({"infra": {"region": "eu"}}, "infra must be InfraConfig, not {'region': 'eu'}"),
    ],
)
def test_a_configuration_that_cannot_run_is_refused_by_name(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Config(**(REQUIRED | fields))


@pytest.mark.parametrize(
    ("make", "fields", "message"),
    [
        (InfraConfig, {"training_shape_id": "s", "accelerator_count": 8}, "the shape decides it"),
        (InfraConfig, {"trainer_timeout_s": 0}, "must be positive"),
        (WeightSyncConfig, {"dcp_save_interval": -1}, r"0 \(off\)"),
        (WeightSyncConfig, {"weight_sync_interval": 0}, "at least 1"),
        (WeightSyncConfig, {"first_checkpoint_type": "full"}, "'base' or 'delta'"),
        (WeightSyncConfig, {"dcp_save_interval": "10"}, "weight_sync.dcp_save_interval must be a whole number"),
        (InfraConfig, {"accelerator_count": "8"}, "infra.accelerator_count must be a whole number or None"),
    ],
)
def test_shared_configuration_is_checked_too(make: Any, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**fields)


def test_a_field_takes_what_is_as_good_as_its_type() -> None:
    config = Config(
        **(REQUIRED | {"log_path": Path("run")}),
        epochs=np.int64(2),  # type: ignore[arg-type]
        learning_rate=1,
        beta1=np.float32(0.5),  # type: ignore[arg-type]
    )
    assert config.epochs == 2


def test_a_recipe_that_builds_on_another_checks_its_own_fields_too() -> None:
    with pytest.raises(ConfigError, match="loss_config must be dict, not 'x'"):
        igpo_loop.Config(**REQUIRED, loss_config="x")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="max_turns must be a whole number, not 'x'"):
        igpo_loop.Config(**REQUIRED, max_turns="x")  # type: ignore[arg-type]
