"""The checks that every configuration makes before anything is created; each refusal is a `ConfigError`."""

import dataclasses
import math
import os
import re
from collections.abc import Collection, Mapping
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Union, get_args, get_origin, get_type_hints

from ftsim.training.errors import ConfigError
from ftsim.training.reporting import writers_named
from ftsim.training.steps import SCHEDULES, read_scheduler

if TYPE_CHECKING:
    from ftsim.training.config import BatchConfig, RunConfig

# Stricter than the SDK, which lets a leading or trailing hyphen through and would fail at the end of training.
LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_RUN = re.compile(r"run-[0-9a-f]{32}")
_MODEL = re.compile(r"accounts/[^/]+/models/[^/]+")
_PATHS = frozenset({"log_path", "dataset", "eval_dataset", "evaluation_dataset", "tokenizer_model"})
_WORDS = {bool: "True or False", int: "a whole number", float: "a number", str: "text", NoneType: "None"}


def check_types(config: object, prefix: str = "") -> None:
    """Refuse any field of the dataclass `config` that is not of its declared type.

    Whole numbers and numbers may be NumPy's, a file may be a `Path`. Types that are not plain are left to the fork
    that declares them.
    """
    if not dataclasses.is_dataclass(config):
        return
    try:
        hints = get_type_hints(type(config))
    except NameError:  # a fork's own type, known only where it was declared
        return
    for field in dataclasses.fields(config):
        hint, value = hints[field.name], getattr(config, field.name)
        kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (get_origin(hint) or hint,)
        if not all(isinstance(kind, type) for kind in kinds) or any(_fits(kind, field.name, value) for kind in kinds):
            continue
        wanted = " or ".join(_WORDS.get(kind, kind.__name__) for kind in kinds)
        raise ConfigError(f"{prefix}{field.name} must be {wanted}, not {value!r}")


def _fits(kind: type, name: str, value: object) -> bool:
    if kind in (int, float):
        return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    return isinstance(value, kind) or (kind is str and name in _PATHS and isinstance(value, os.PathLike))


def check_output_model_id(model_id: str) -> None:
    """Refuse a model id that the service would refuse at the end of training."""
    if not LABEL.fullmatch(model_id):
        raise ConfigError(
            f"output_model_id {model_id!r} is not a model id: 1 to 63 of a-z, 0-9 and hyphen, no hyphen at either end"
        )


def parse_checkpoint_ref(ref: str) -> tuple[str, str]:
    """Split `job-id:checkpoint-name` of `init_from_checkpoint`."""
    job_id, colon, name = ref.partition(":")
    if not colon or not LABEL.fullmatch(job_id) or not LABEL.fullmatch(name):
        raise ConfigError(
            f"init_from_checkpoint {ref!r} is not 'job-id:checkpoint-name' (the short job id, and the name of a "
            "resumable row of that job, such as 'i44pvd4syzg8hjfk:step-4')"
        )
    return job_id, name


def check_at_least(config: object, bounds: Mapping[str, float]) -> None:
    """Refuse any named field of `config` below its bound or infinite; fields that are None are skipped."""
    for name, least in bounds.items():
        value = getattr(config, name)
        if value == math.inf:
            raise ConfigError(f"{name} must be finite, not {value!r}")
        if value is not None and not value >= least:
            raise ConfigError(f"{name} must be at least {least:g}, not {value!r}")


def check_choice(name: str, value: str, choices: Collection[str]) -> None:
    """Refuse a `value` of the field `name` that is not one of `choices`."""
    if value not in choices:
        raise ConfigError(f"{name} {value!r} is not one of {', '.join(sorted(choices))}")


def check_evaluation(config: "BatchConfig") -> None:
    """Refuse settings of a recipe that holds examples out."""
    check_at_least(config, {"batch_size": 1, "gradient_accumulation_steps": 1, "eval_split": 0, "eval_interval": 0})
    if config.eval_split >= 1:
        raise ConfigError("eval_split must be below 1")
    if config.eval_auto_carveout:
        raise ConfigError("eval_auto_carveout does not say how much is held out: set eval_split, such as 0.1")
    if config.eval_split and config.eval_dataset:
        raise ConfigError("eval_split and eval_dataset exclude each other; keep one")


def check_schedule(config: "RunConfig") -> None:
    """Refuse a learning-rate schedule that does not exist, or that is given in two forms."""
    check_choice("lr_schedule", config.lr_schedule, SCHEDULES)
    check_at_least(config, {"warmup_steps": 0, "min_lr_ratio": 0})
    if config.min_lr_ratio > 1:
        raise ConfigError("min_lr_ratio must lie between 0 and 1")
    if config.lr_scheduler is None:
        return
    if (config.lr_schedule, config.warmup_steps, config.min_lr_ratio) != ("constant", 0, 0):
        raise ConfigError("lr_scheduler goes instead of lr_schedule, warmup_steps and min_lr_ratio: keep one form")
    read_scheduler(config.lr_scheduler)


def check_serverless(config: "RunConfig") -> None:
    """Refuse what a run on the serverless pool cannot have."""
    if config.lora_rank == 0:
        raise ConfigError(
            "serverless=True needs a LoRA run: set lora_rank. The trainers of the pool hold the adapters of many runs, "
            "and none whose parameters are all trained"
        )
    defaults = {field.name: field.default for field in dataclasses.fields(config.infra)}
    machines = [f"infra.{name}" for name, value in defaults.items() if getattr(config.infra, name) != value]
    own = {"trainer_job_id": None, "deployment_id": None, "deployment_replicas": 1}
    machines += [name for name, value in own.items() if getattr(config, name, value) != value]
    if machines:
        raise ConfigError(f"serverless=True leaves the machines to the pool: leave out {', '.join(machines)}")
    if config.init_from_checkpoint and not _RUN.fullmatch(parse_checkpoint_ref(config.init_from_checkpoint)[0]):
        raise ConfigError(
            f"init_from_checkpoint {config.init_from_checkpoint!r}: a run on the pool starts from another one there, "
            "'run-<32 hex digits>:checkpoint-name'; ftsim train and the result of main tell a run's id"
        )


def check_common(config: "RunConfig") -> None:
    """Refuse wrong types, and settings that exclude each other, of any recipe's `Config`."""
    check_types(config)
    for name in ("log_path", "base_model", "dataset", "tokenizer_model"):
        if not str(getattr(config, name) or "").strip():
            raise ConfigError(f"{name} is required")
    if config.output_model_id is not None:
        check_output_model_id(config.output_model_id)
    if config.trainer_job_id is not None and not LABEL.fullmatch(config.trainer_job_id):
        raise ConfigError(f"trainer_job_id {config.trainer_job_id!r} is not a short job id (a-z, 0-9, hyphen)")
    if config.init_from_checkpoint and config.warm_start_from_adapter:
        raise ConfigError(
            "init_from_checkpoint and warm_start_from_adapter exclude each other: the first loads a resumable "
            "checkpoint of a job, the second the adapter of a promoted model; keep one"
        )
    if config.init_from_checkpoint:
        parse_checkpoint_ref(config.init_from_checkpoint)
    if config.warm_start_from_adapter and not _MODEL.fullmatch(config.warm_start_from_adapter):
        raise ConfigError(
            f"warm_start_from_adapter {config.warm_start_from_adapter!r} is not the full name of a promoted adapter, "
            "accounts/<account>/models/<model>"
        )
    if config.warm_start_from_adapter and config.lora_rank == 0:
        raise ConfigError("warm_start_from_adapter needs a LoRA run: set lora_rank to the adapter's rank")
    if config.restore_optimizer and not config.init_from_checkpoint:
        raise ConfigError("restore_optimizer needs init_from_checkpoint, which names the checkpoint it is taken from")
    if config.output_model_id is not None and not config.save_final_checkpoint:
        raise ConfigError("output_model_id promotes the final checkpoint: leave save_final_checkpoint at True")
    if config.renderer_name:
        raise ConfigError(
            f"renderer_name {config.renderer_name!r}: messages are rendered by the chat template of tokenizer_model, "
            "as they are when the model is served; leave it out, or give a tokenizer with the template you want"
        )
    if config.serverless:
        check_serverless(config)
    writers_named(config.report_to)
    check_schedule(config)
    check_choice("on_bad_row", config.on_bad_row, ("fail", "skip"))
    check_at_least(config, {"lora_rank": 0, "epochs": 1})
    check_at_least(config, {"learning_rate": 0, "max_seq_len": 2, "max_examples": 1})
    if config.step_timeout is not None and not 0 < config.step_timeout < math.inf:
        raise ConfigError(f"step_timeout must be a positive number of seconds, not {config.step_timeout!r}")
    check_at_least(config, {"lora_alpha": 1} | dict.fromkeys(("beta1", "beta2", "weight_decay", "grad_clip_norm"), 0))
    for name in ("beta1", "beta2"):
        if getattr(config, name) >= 1:
            raise ConfigError(f"{name} must be below 1, not {getattr(config, name)!r}")
    if not 0 < config.eps < math.inf:
        raise ConfigError(f"eps must be above 0 and finite, not {config.eps!r}")
    if not -(2**63) <= config.seed < 2**63:
        raise ConfigError(f"seed must fit in 64 bits, not {config.seed!r}")
