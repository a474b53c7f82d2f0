"""Holds what a job is asked to be, checked against the catalogue before anything is created (WIRE 1.7)."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from emulator.core.errors import FailedPrecondition, InvalidArgument, PreconditionFailed
from emulator.core.names import Subject
from emulator.core.settings import setting
from emulator.platform.models.catalogue import Catalogue
from emulator.platform.models.facts import versioned
from emulator.platform.models.models import ADDON, Models
from emulator.quirks import jobs
from emulator.quirks.engine import Quirks
from emulator.state.settings import TRAINING, JobSettings

LONGEST_DISPLAY_NAME = 63
LONGEST_INACTIVITY_S = 3 * 3600.0


@dataclass
class JobSpec(JobSettings):
    """A create request. `shape` is a shape or version name; `inactivity_s` 0 = never stop; None = the default.

    `config` and `request` are the body's `trainingConfig` and the rest of the body, echoed by GET.
    """

    warm_start_from: str = setting("", within=TRAINING)
    skip_validations: bool = False
    inactivity_s: float | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    request: Mapping[str, Any] = field(default_factory=dict)


CONTEXT_STEP = 16
"""What the context length of a job with a training shape is a multiple of."""


def resolve(spec: JobSpec, models: Models, catalogue: Catalogue, quirks: Quirks, account: str) -> JobSpec:
    """Check everything a request says; raises InvalidArgument, FailedPrecondition, NotFound.

    Returns it with the weights to start from, the shape's version and the context in tokens.
    """
    if len(spec.display_name) > LONGEST_DISPLAY_NAME:
        raise InvalidArgument(f"displayName has {len(spec.display_name)} characters: at most {LONGEST_DISPLAY_NAME}")
    most = quirks.value(jobs.MAX_LORA_RANK, Subject(account=account))
    if not 0 <= spec.lora_rank <= most:
        raise InvalidArgument(f"trainingConfig.loraRank is {spec.lora_rank}: use 1 to {most}, or 0 for full-parameter")
    if spec.max_context_length < 0:
        raise InvalidArgument(f"trainingConfig.maxContextLength is {spec.max_context_length}: use a positive number")
    if spec.inactivity_s is not None and not 0 <= spec.inactivity_s <= LONGEST_INACTIVITY_S:
        raise InvalidArgument(f"inactivityTimeout is {spec.inactivity_s:g}s: use at most 3 hours (10800s)")
    base = _weights(spec, models, quirks, account)
    models.visible(account, base)
    models.base(base)
    # An account may be new to shapes: the service enables them one by one (FAILURES F18).
    if spec.shape and not quirks.value(jobs.SHAPES_ENABLED, Subject(account=account)):
        raise PreconditionFailed(f"training shape {spec.shape[:200]!r} is not enabled for account {account}")
    longest, version = _shape(spec, base, models, catalogue)
    return replace(spec, base_model=base, shape=version, max_context_length=spec.max_context_length or longest)


def _weights(spec: JobSpec, models: Models, quirks: Quirks, account: str) -> str:
    """The model whose weights the trainer starts from (FAILURES C12)."""
    if not spec.warm_start_from:
        if not spec.base_model:
            raise InvalidArgument("trainingConfig.baseModel is required: give accounts/<account>/models/<model>")
        return spec.base_model
    if models.visible(account, spec.warm_start_from).kind != ADDON:
        return spec.warm_start_from
    if quirks.value(jobs.WARM_START_LORA, Subject(account=account)) == "rejected":
        raise InvalidArgument(
            "trainingConfig.warmStartFrom names a LoRA add-on, which has no effect in service mode: create the job on "
            "the base model and call load_adapter on the training client"
        )
    return spec.base_model or models.get(spec.warm_start_from).base_model


def _shape(spec: JobSpec, base: str, models: Models, catalogue: Catalogue) -> tuple[int, str]:
    root = models.root(base)
    if not spec.shape:
        known = catalogue.model(root)
        return (known.context_length if known else models.get(base).context_length), ""
    shape, version = catalogue.training_shape(spec.shape)
    if not spec.skip_validations and shape.base_model not in (root, base):
        raise InvalidArgument(
            f"training shape {shape.name} is for {shape.base_model}, the job's baseModel is {base}: choose a shape of "
            "that model, or the shape's model"
        )
    if spec.max_context_length % CONTEXT_STEP:  # a rule of shapes alone (FAILURES F18)
        raise InvalidArgument(
            f"trainingConfig.maxContextLength is {spec.max_context_length}: it must be divisible by {CONTEXT_STEP}"
        )
    if spec.max_context_length > shape.max_context_length:
        raise FailedPrecondition(
            f"trainingConfig.maxContextLength is {spec.max_context_length}: {shape.name} goes up to "
            f"{shape.max_context_length}"
        )
    return shape.max_context_length, versioned(shape, version)
