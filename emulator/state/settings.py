"""Holds what a client sets of a trainer job and of a deployment: each field is declared here and nowhere else."""

from dataclasses import dataclass
from typing import Any

from emulator.core.settings import setting

TRAINING = "training_config"
"""The object in a job's body that says how to train."""


@dataclass
class JobSettings:
    """The fields of a trainer job that a client sets: bodies, spec, stored resource and answer come from here.

    A job stores `shape`, which the query of its create says, with its version.
    """

    base_model: str = setting("", within=TRAINING, shown="always")
    lora_rank: int = setting(0, within=TRAINING, shown="always")
    learning_rate: float = setting(0.0, within=TRAINING, shown="always")
    max_context_length: int = setting(0, within=TRAINING, shown="always")
    display_name: str = setting("", shown="always")
    forward_only: bool = setting(False, shown="always")
    shape: str = setting("", key="training_shape", sent=False)
    purpose: str = setting("")
    hot_load_deployment: str = setting("", key="hot_load_deployment_id")


@dataclass
class DeploymentSettings:
    """The fields of a deployment that a client sets: body, stored resource, mask of a PATCH and answer come from here.

    A deployment stores `deployment_shape` with its version, `hot_load_transition_type` as ASYNC, SYNC or "" (unsaid).
    """

    base_model: str = setting("", shown="always")
    deployment_shape: str = setting("")
    accelerator_type: str = setting("")
    min_replica_count: int = setting(0, changeable=True, shown="always")
    max_replica_count: int = setting(1, changeable=True, shown="always")
    enable_hot_load: bool = setting(False, changeable=True, shown="always")
    hot_load_trainer_job: str = setting("", changeable=True)
    hot_load_transition_type: str = setting("", changeable=True)
    hot_load_bucket_url: str = setting("", changeable=True)
    hot_load_bucket_type: str = setting("")
    enable_addons: bool = setting(False, changeable=True)
    enable_hot_reload_latest_addon: bool = setting(False)
    for_training: bool = setting(False)
    description: str = setting("", changeable=True, shown="always")
    display_name: str = setting("", changeable=True)
    autoscaling_policy: dict[str, Any] = setting({}, changeable=True)  # noqa: RUF009
    annotations: dict[str, str] = setting({}, changeable=True)  # noqa: RUF009
