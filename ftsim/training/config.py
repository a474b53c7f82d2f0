"""Configuration shared by the recipes, and the checks they have in common."""

import dataclasses
import math
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from ftsim.training.errors import ConfigError
from ftsim.training.schedule import SCHEDULES

# Stricter than the SDK, which lets a leading or trailing hyphen through (D4).
LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
# Leaves room for "-step-", a step and "-rK" in a checkpoint's name, which is cut at 54 (B4).
PREFIX_LIMIT = 32
_MODEL = re.compile(r"accounts/[^/]+/models/[^/]+")
_PATHS = frozenset({"log_path", "dataset", "eval_dataset", "tokenizer_model"})
_WORDS = {bool: "True or False", int: "a whole number", float: "a number", str: "text", NoneType: "None"}


@dataclass
class InfraConfig:
    """Where the trainer runs."""

    training_shape_id: str | None = None
    """Resource name of a training shape, with or without a version; None asks for hardware by hand."""
    reference_training_shape_id: str | None = None
    """Shape of the forward-only trainer a full-parameter run may need for its reference model; None = the same."""
    deployment_shape_id: str | None = None
    """Shape of the deployment of a recipe that samples; None takes the training shape's."""
    region: str | None = None
    """Region of the trainer; None leaves it to the service."""
    custom_image_tag: str | None = None
    """Trainer image tag; None takes the shape's."""
    accelerator_type: str | None = None
    """Accelerator type, only without a training shape."""
    accelerator_count: int | None = None
    """Accelerators per node, only without a training shape."""
    node_count: int | None = None
    """Number of nodes, only without a training shape."""
    trainer_timeout_s: float = 3600.0
    """How long a placed trainer may take to become ready."""
    deployment_timeout_s: float = 5400.0
    """How long a deployment may take to become ready."""

    def __post_init__(self) -> None:
        check_types(self, "infra.")
        by_hand = [
            name for name in ("accelerator_type", "accelerator_count", "node_count") if getattr(self, name) is not None
        ]
        if self.training_shape_id and by_hand:
            raise ConfigError(f"infra.{by_hand[0]} cannot go with infra.training_shape_id: the shape decides it")
        if self.trainer_timeout_s <= 0:
            raise ConfigError("infra.trainer_timeout_s must be positive")


@dataclass
class WeightSyncConfig:
    """When weights are saved, and when they are sent to the deployment that samples."""

    dcp_save_interval: int = 0
    """Save a resumable checkpoint every N steps; 0 = off, and then nothing but the final save can be resumed."""
    checkpoint_prefix: str | None = None
    """What checkpoint names begin with; None = the recipe's name on a job named by trainer_job_id, else nothing."""
    weight_sync_interval: int = 1
    """Hot-load the weights into the deployment every N steps (recipes that sample)."""
    first_checkpoint_type: str = "base"
    """Type of a full-parameter run's first snapshot; the deployment needs a `base` before any `delta`."""
    weight_sync_before_training: bool = False
    """Hot-load the initial weights before the first step."""
    weight_sync_timeout: int = 600
    """Seconds a hot load may take."""

    def __post_init__(self) -> None:
        check_types(self, "weight_sync.")
        if self.dcp_save_interval < 0:
            raise ConfigError("weight_sync.dcp_save_interval must be 0 (off) or a positive number of steps")
        if self.weight_sync_interval < 1:
            raise ConfigError("weight_sync.weight_sync_interval must be at least 1")
        if self.first_checkpoint_type not in ("base", "delta"):
            raise ConfigError("weight_sync.first_checkpoint_type must be 'base' or 'delta'")
        prefix = self.checkpoint_prefix
        if prefix and (not LABEL.fullmatch(prefix) or len(prefix) > PREFIX_LIMIT):
            raise ConfigError(
                f"weight_sync.checkpoint_prefix {prefix!r} must be 1 to {PREFIX_LIMIT} of a-z, 0-9 and hyphen, with no "
                "hyphen at either end"
            )

    def saved_steps(self, total: int) -> list[int]:
        """The steps of a run of `total` after which its state is saved."""
        every = self.dcp_save_interval
        return [step for step in range(1, total + 1) if step == total or (every and step % every == 0)]


def phase_of(config: Any, recipe: str) -> str:
    """What names of this run's checkpoints begin with: on a job that others train too, they must differ (C14)."""
    prefix: str | None = config.weight_sync.checkpoint_prefix
    return prefix if prefix is not None else recipe if config.trainer_job_id else ""


def check_types(config: Any, prefix: str = "") -> None:
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


def _fits(kind: type, name: str, value: Any) -> bool:
    if kind in (int, float):
        return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    return isinstance(value, kind) or (kind is str and name in _PATHS and isinstance(value, os.PathLike))


def check_output_model_id(model_id: str) -> None:
    """Refuse a model id that the service would refuse at the end of training (D4)."""
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


def check_at_least(config: Any, bounds: Mapping[str, float]) -> None:
    """Refuse any named field of `config` below its bound or infinite; fields that are None are skipped."""
    for name, least in bounds.items():
        value = getattr(config, name)
        if value == math.inf:
            raise ConfigError(f"{name} must be finite, not {value!r}")
        if value is not None and not value >= least:
            raise ConfigError(f"{name} must be at least {least:g}, not {value!r}")


def check_choice(name: str, value: str, choices: Collection[str]) -> None:
    if value not in choices:
        raise ConfigError(f"{name} {value!r} is not one of {', '.join(sorted(choices))}")


def check_evaluation(config: Any) -> None:
    """The checks of a recipe that holds examples out."""
    check_at_least(config, {"eval_split": 0, "eval_interval": 0})
    if config.eval_split >= 1:
        raise ConfigError("eval_split must be below 1")
    if config.eval_split and config.eval_dataset:
        raise ConfigError("eval_split and eval_dataset exclude each other; keep one")


def check_common(config: Any) -> None:
    """The type and cross-field checks every recipe's `Config` makes in `__post_init__`."""
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
    check_choice("lr_schedule", config.lr_schedule, SCHEDULES)
    check_at_least(config, {"lora_rank": 0, "epochs": 1, "warmup_steps": 0})
    batches = ("batch_size", "gradient_accumulation_steps")  # recipes that sample count otherwise
    check_at_least(config, {name: 1 for name in batches if hasattr(config, name)})
    check_at_least(config, {"learning_rate": 0, "min_lr_ratio": 0, "max_seq_len": 2, "max_examples": 1})
    if config.min_lr_ratio > 1:
        raise ConfigError("min_lr_ratio must lie between 0 and 1")
    check_at_least(config, {"lora_alpha": 1} | dict.fromkeys(("beta1", "beta2", "weight_decay", "grad_clip_norm"), 0))
    for name in ("beta1", "beta2"):
        if getattr(config, name) >= 1:
            raise ConfigError(f"{name} must be below 1, not {getattr(config, name)!r}")
    if not 0 < config.eps < math.inf:
        raise ConfigError(f"eps must be above 0 and finite, not {config.eps!r}")
    if not -(2**63) <= config.seed < 2**63:
        raise ConfigError(f"seed must fit in 64 bits, not {config.seed!r}")
