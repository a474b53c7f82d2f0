"""Holds what a deployment is asked to be, checked against the catalogue before anything is created (WIRE 1.12)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from emulator.core.errors import FailedPrecondition, InvalidArgument, PermissionDenied
from emulator.core.names import Subject
from emulator.platform.models.catalogue import Catalogue
from emulator.platform.models.facts import versioned
from emulator.platform.models.models import Models
from emulator.quirks import deployments
from emulator.quirks.engine import Quirks
from emulator.state.entities import Deployment
from emulator.state.settings import DeploymentSettings
from emulator.state.world import World

TRANSITIONS = ("", "ASYNC", "SYNC")
MOST_REPLICAS = 16
SHORTEST_WINDOW_S = 300.0
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")
_UNSET_TRANSITIONS = ("HOT_LOAD_TRANSITION_TYPE_UNSPECIFIED", "UNSPECIFIED")


@dataclass
class DeploymentSpec(DeploymentSettings):
    """A create request; `request` is what else the body says, echoed by GET."""

    accept_shapeless_risk: bool = False
    skip_shape_validation: bool = False
    request: Mapping[str, Any] = field(default_factory=dict)


def check(spec: DeploymentSpec, models: Models, catalogue: Catalogue, quirks: Quirks, account: str) -> str:
    """Refuse what the service refuses; returns the pinned shape version, "" without a shape (FAILURES E22).

    Raises InvalidArgument, NotFound.
    """
    if not spec.base_model:
        raise InvalidArgument("baseModel is required: give accounts/<account>/models/<model>")
    models.visible(account, spec.base_model)
    if spec.hot_load_bucket_type not in ("", "FW_HOSTED", "MINIO", "S3", "NEBIUS", "BUCKET_TYPE_UNSPECIFIED"):
        raise InvalidArgument(f"hotLoadBucketType {spec.hot_load_bucket_type[:40]!r} is unknown: use FW_HOSTED")
    check_counts(spec.min_replica_count, spec.max_replica_count)
    check_bucket(spec.enable_hot_load, spec.hot_load_trainer_job, spec.hot_load_bucket_url)
    if not spec.description and quirks.value(deployments.REQUIRE_DESCRIPTION, Subject(account=account)):
        raise InvalidArgument("description is required")
    check_tags(spec.annotations, quirks, account)
    idle_window_s(spec.autoscaling_policy)
    if not spec.deployment_shape:
        if not spec.accelerator_type or spec.accelerator_type == "ACCELERATOR_TYPE_UNSPECIFIED":
            raise InvalidArgument("give a deploymentShape, or an acceleratorType for a deployment without a shape")
        return ""
    return _shape(spec, models, catalogue, quirks, account)


def _shape(spec: DeploymentSpec, models: Models, catalogue: Catalogue, quirks: Quirks, account: str) -> str:
    if spec.accelerator_type:
        raise InvalidArgument("acceleratorType cannot be given with a deploymentShape: the shape has its own")
    if spec.accept_shapeless_risk:
        raise InvalidArgument("acceptShapelessRisk cannot be combined with a deploymentShape")
    asked = spec.deployment_shape
    if not asked.startswith("accounts/") or "/deploymentShapes/" not in asked:
        raise InvalidArgument(
            f"invalid deploymentShape {asked[:200]!r}: give accounts/<account>/deploymentShapes/<shape>"
        )
    shape, version = catalogue.deployment_shape(asked)
    private = quirks.value(deployments.PRIVATE_SHAPES, Subject(account=account))
    if private and not spec.for_training:
        raise InvalidArgument(f"deploymentShape {asked[:200]!r} is private: set forTraining to use it")
    root = models.root(spec.base_model)
    if not spec.skip_shape_validation and shape.base_model not in (spec.base_model, root):
        raise InvalidArgument(
            f"{shape.name} is for {shape.base_model}, the deployment's baseModel is {spec.base_model}"
        )
    return versioned(shape, version)


def check_tags(annotations: Mapping[str, str], quirks: Quirks, account: str) -> None:
    """Raises PermissionDenied for a tag that customers may not write (FAILURES E26)."""
    own = [key for key in annotations if not key.startswith("custom/")]
    if own and quirks.value(deployments.TAG_RULE, Subject(account=account)) == "custom_only":
        raise PermissionDenied(f'tag key "{own[0][:120]}" is not customer-writable: begin it with custom/')


def check_bucket(enabled: bool, trainer_job: str, bucket_url: str) -> None:
    """Raises InvalidArgument for a bucket that nobody would load from."""
    if (trainer_job or bucket_url) and not enabled:
        raise InvalidArgument("hotLoadTrainerJob and hotLoadBucketUrl need enableHotLoad: true")


def check_addons(world: World, deployment: Deployment) -> None:
    """Raises FailedPrecondition for a deployment that is to take no add-ons while some are loaded."""
    if deployment.enable_addons or deployment.enable_hot_reload_latest_addon:
        return
    for one in world.deployed_models.of(deployment.account):
        if one.deployment == deployment.name:
            raise FailedPrecondition(f"{one.name} is loaded on {deployment.name}: unload it before enableAddons: false")


def idle_window_s(policy: Mapping[str, Any]) -> float:
    """Seconds without a request after which a deployment has no replicas, 0 for never; raises InvalidArgument."""
    text = policy.get("scaleToZeroWindow", policy.get("scale_to_zero_window"))
    if text is None:
        return 0.0
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None or float(match[1]) < SHORTEST_WINDOW_S:
        raise InvalidArgument(
            f"autoscalingPolicy.scaleToZeroWindow is {str(text)[:40]!r}: give seconds, from {SHORTEST_WINDOW_S:g}s on"
        )
    return float(match[1])


def check_counts(low: int, high: int) -> None:
    """Raises InvalidArgument unless these can be the least and the largest number of replicas."""
    if not 0 <= low <= high <= MOST_REPLICAS:
        raise InvalidArgument(
            f"minReplicaCount {low} and maxReplicaCount {high}: "
            f"use 0 <= minReplicaCount <= maxReplicaCount <= {MOST_REPLICAS}"
        )


def transition(value: str) -> str:
    """ASYNC, SYNC, or "" when nothing was said; raises InvalidArgument."""
    name = "" if value in _UNSET_TRANSITIONS else value
    if name not in TRANSITIONS:
        raise InvalidArgument(f"hotLoadTransitionType {value[:40]!r} is unknown: use ASYNC or SYNC")
    return name
