"""The two forms of a configuration: April's `infra=`, `weight_sync=`, and November's top-level fields.

The platform's page changed its names in 2026: `weight_sync=WeightSyncConfig(dcp_save_interval=10)` became
`dcp_save_interval=10`, `infra=InfraConfig(...)` became `trainer=TrainerConfig(...)` and `deployment=DeployConfig(...)`.
A program of either date runs unchanged. Whichever form is used, the recipes read the settings under April's names:
`adopt` puts them there. One setting by both names is refused, since nobody could say which one is meant.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from ftsim.training.checks import check_types
from ftsim.training.errors import ConfigError

if TYPE_CHECKING:
    from ftsim.training.config import RunConfig

S = TypeVar("S")
_ADOPTED = "_adopted"
_SYNC = ("dcp_save_interval", "weight_sync_interval", "weight_sync_before_training", "weight_sync_timeout")
_PLAIN = {
    "evaluation_dataset": "eval_dataset",
    "trainer.trainer_job_id": "trainer_job_id",
    "deployment.deployment_id": "deployment_id",
    "deployment.replica_count": "deployment_replicas",
}
"""November's name -> April's field of the configuration itself."""


@dataclass
class TrainerConfig:
    """The trainer of a run, in November's form; the fields are those of `InfraConfig`."""

    training_shape_id: str | None = None
    """Resource name of a training shape, with or without a version; None asks for hardware by hand."""
    reference_training_shape_id: str | None = None
    """Shape of the forward-only trainer a full-parameter run may need for its reference model; None = the same."""
    trainer_job_id: str | None = None
    """Use this job, which exists and is not released at the end; None derives one from log_path."""
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
    trainer_timeout_s: float | None = None
    """Seconds that a placed trainer may take to become ready; None = 3600."""

    def __post_init__(self) -> None:
        check_types(self, "trainer.")


@dataclass
class DeployConfig:
    """The deployment that a recipe samples from, in November's form."""

    deployment_id: str | None = None
    """Sample from this deployment, which exists and is not deleted at the end; None derives one from log_path."""
    deployment_shape: str | None = None
    """Shape of the deployment; None takes the training shape's."""
    replica_count: int | None = None
    """Replicas of the deployment; None = 1."""
    deployment_timeout_s: float | None = None
    """Seconds that the deployment may take to become ready; None = 5400."""

    def __post_init__(self) -> None:
        check_types(self, "deployment.")


_SAMPLE = "only a recipe that samples has a deployment: rl_loop, async_rl_loop, igpo_loop"
_BATCHES = "only a recipe that trains on the rows of a file has it: sft_loop, dpo_loop, orpo_loop"
ELSEWHERE: Mapping[str, str] = {
    "deployment": _SAMPLE,
    "deployment_id": _SAMPLE,
    "weight_sync_interval": _SAMPLE,
    "weight_sync_before_training": _SAMPLE,
    "weight_sync_timeout": _SAMPLE,
    "evaluation_dataset": _BATCHES,
    "eval_dataset": _BATCHES,
    "eval_auto_carveout": _BATCHES,
    "group_by_length": _BATCHES,
    "pipeline_depth": "only sft_loop has it: the steps of other recipes wait for what the trainer or the policy says",
    "train_on_what": "only sft_loop has it: a comparison trains what the two sides do not share, and a recipe that "
    "samples trains its samples",
}
"""Settings that some recipes have, and why the others have not."""


def refuse_elsewhere(module: str, names: Iterable[str]) -> None:
    """Refuse settings of other recipes by name; any further name Python itself refuses."""
    for name in sorted(names):
        if name in ELSEWHERE:
            raise ConfigError(f"{name} is no setting of {module.rpartition('.')[2]}: {ELSEWHERE[name]}")


class AdoptedText(str):
    """A text that was copied from another field: it was not set by itself."""


class AdoptedCount(int):
    """A number that was copied from another field: it was not set by itself."""


def adopt(config: "RunConfig") -> None:
    """Copy what is set in November's form to April's fields; raises `ConfigError` for a setting that has two values."""
    trainer, deployment = getattr(config, "trainer", None), getattr(config, "deployment", None)
    infra: dict[str, tuple[str, object]] = {}
    if trainer is not None:
        fields = [field.name for field in dataclasses.fields(trainer) if field.name != "trainer_job_id"]
        infra |= {name: (f"trainer.{name}", getattr(trainer, name)) for name in fields}
    if deployment is not None:
        infra["deployment_shape_id"] = ("deployment.deployment_shape", deployment.deployment_shape)
        infra["deployment_timeout_s"] = ("deployment.deployment_timeout_s", deployment.deployment_timeout_s)
    config.infra = _adopt_group(config.infra, "infra", infra)
    sync = {name: (name, getattr(config, name, None)) for name in _SYNC}
    config.weight_sync = _adopt_group(config.weight_sync, "weight_sync", sync)
    for said, name in _PLAIN.items():
        if hasattr(config, name):
            holder, _, field = said.rpartition(".")
            _adopt_plain(config, name, said, getattr(getattr(config, holder) if holder else config, field, None))


def _adopt_group(settings: S, group: str, given: Mapping[str, tuple[str, object]]) -> S:
    """Returns `settings` with the values given for its fields; `given` maps a field to its other name and its value.

    A copy remembers what it has adopted, so that `dataclasses.replace` on the configuration adopts anew.
    """
    if not dataclasses.is_dataclass(settings):
        return settings  # check_types says what is wrong with it
    defaults = {field.name: field.default for field in dataclasses.fields(settings)}
    before: frozenset[str] = vars(settings).get(_ADOPTED, frozenset())
    values: dict[str, Any] = {name: defaults[name] for name in before}
    for name, (said, value) in given.items():
        if value is None:
            continue
        if name not in before and getattr(settings, name) != defaults[name]:
            raise _twice(said, f"{group}.{name}")
        values[name] = value
    if not values:
        return settings
    adopted = dataclasses.replace(settings, **values)  # type: ignore[type-var]
    vars(adopted)[_ADOPTED] = frozenset(name for name, (_, value) in given.items() if value is not None)
    return adopted


def _adopt_plain(config: "RunConfig", name: str, said: str, value: object) -> None:
    """Set a field of the configuration itself from its other name."""
    present = getattr(config, name)
    default = next(field.default for field in dataclasses.fields(config) if field.name == name)
    if isinstance(present, AdoptedText | AdoptedCount):
        present = default
    if value is None:
        setattr(config, name, present)
        return
    if present != default:
        raise _twice(said, name)
    setattr(config, name, AdoptedCount(value) if isinstance(value, int) else AdoptedText(value))


def _twice(one: str, other: str) -> ConfigError:
    return ConfigError(f"{one} and {other} are two names of one setting: keep one of them")
