"""One optimizer step as the SDK's calls, submitted together and awaited later, and its learning rate."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np
from pydantic import ValidationError

from ftsim.training.clients import CustomLoss, Future, TrainingClient
from ftsim.training.errors import ConfigError, TrainerError
from ftsim.training.sdk import types

Schedule = Literal["constant", "linear", "cosine"]
SCHEDULES: tuple[str, ...] = get_args(Schedule)


class StepSettings(Protocol):
    """The fields of a configuration that a step takes: AdamW's, and how long it may take."""

    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    grad_clip_norm: float
    step_timeout: float | None


def learning_rate(
    step: int,
    *,
    peak: float,
    schedule: str,
    warmup_steps: int,
    total_steps: int,
    min_ratio: float = 0.0,
) -> float:
    """Returns the rate of update `step` (0-based): linear warm-up to `peak`, then decay towards `peak * min_ratio`.

    It depends on nothing but the step, so that a resumed run has the rates of an uninterrupted one.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    if schedule == "constant":
        return peak
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    shape = 1.0 - progress if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
    return peak * (min_ratio + (1.0 - min_ratio) * shape)


def read_scheduler(given: object) -> Any:
    """Returns the SDK's schedule for a name, a mapping or one of its own objects; raises `ConfigError`."""
    from fireworks.training import sdk as vendor

    if not hasattr(vendor, "parse_lr_scheduler_spec"):
        raise ConfigError("lr_scheduler needs a newer fireworks-ai, which has schedules: use lr_schedule instead")
    try:
        return vendor.parse_lr_scheduler_spec({"type": given} if isinstance(given, str) else given)
    except ValidationError as error:
        reasons = "; ".join(f"{'.'.join(map(str, one['loc']))} {one['msg']}".strip() for one in error.errors())
        raise ConfigError(f"lr_scheduler {given!r} is no schedule of the SDK: {reasons}") from error


def scheduled_rate(scheduler: object, step: int, *, peak: float, total_steps: int) -> float:
    """Returns the rate that the SDK's schedule gives to update `step` (0-based; the SDK counts from 1)."""
    from fireworks.training import sdk as vendor

    return float(vendor.compute_lr(read_scheduler(scheduler), step + 1, peak, total_steps=total_steps))


@dataclass(frozen=True)
class Submitted:
    """The futures of one step; `result` blocks until it is done."""

    losses: Sequence[Future]
    update: Future
    timeout: float | None = None
    """Seconds that `result` may take."""

    def result(self) -> tuple[dict[str, float], dict[str, float]]:
        """Returns loss metrics summed over micro-batches, and the optimizer's metrics."""
        deadline = None if self.timeout is None else time.monotonic() + self.timeout

        def awaited(future: Future) -> Any:
            try:
                return future.result(timeout=None if deadline is None else max(0.0, deadline - time.monotonic()))
            except TimeoutError as error:
                if deadline is None or time.monotonic() < deadline:
                    raise
                raise TrainerError(
                    f"a step was not done within step_timeout={self.timeout:g} s: look at the trainer job, and run "
                    "again to go on from the last checkpoint"
                ) from error

        total: dict[str, float] = {}
        for future in self.losses:
            for name, value in awaited(future).metrics.items():
                total[name] = total.get(name, 0.0) + float(value)
        return total, dict(awaited(self.update).metrics or {})


def submit(
    client: TrainingClient,
    micro_batches: Sequence[Sequence[Any]],
    loss_fn: str,
    learning_rate: float,
    config: StepSettings,
    loss_config: Mapping[str, float] | None = None,
) -> Submitted:
    """Queue a step: gradients of every micro-batch, then one update by their mean over loss tokens.

    The server keeps the order of submission, so nothing is awaited here; await it before any save, which
    would otherwise hold steps that its cursor does not count.
    """
    losses = [
        client.forward_backward(list(batch), loss_fn, dict(loss_config) if loss_config else None)
        for batch in micro_batches
    ]
    update = client.optim_step(adam_params(learning_rate, config), grad_accumulation_normalization="num_loss_tokens")
    return Submitted(losses, update, config.step_timeout)


def submit_custom(
    client: TrainingClient,
    micro_batches: Sequence[tuple[Sequence[Any], CustomLoss]],
    learning_rate: float,
    config: StepSettings,
) -> Submitted:
    """As `submit`, with a loss computed here for each micro-batch and no normalisation by the server.

    Blocks until the server has the log-probabilities, that is, until all it was sent before is done.
    """
    losses = [client.forward_backward_custom(list(batch), loss) for batch, loss in micro_batches]
    return Submitted(losses, client.optim_step(adam_params(learning_rate, config)), config.step_timeout)


def adam_params(learning_rate: float, config: StepSettings) -> Any:
    """Returns the SDK's optimizer settings of one step."""
    return types.AdamParams(
        learning_rate=learning_rate,
        beta1=config.beta1,
        beta2=config.beta2,
        eps=config.eps,
        weight_decay=config.weight_decay,
        grad_clip_norm=config.grad_clip_norm,
    )


def grad_norm(update: Mapping[str, float]) -> dict[str, float]:
    """Returns the optimizer's gradient norm for the log, where the service gives one."""
    return {name: update[name] for name in ("grad_norm",) if name in update}


def mean_loss(client: TrainingClient, data: Sequence[Any], batch_size: int) -> float:
    """Returns the cross-entropy over `data` per trained token, as a step's loss is; gradients stay as they are."""
    total, count = 0.0, 0
    for at in range(0, len(data), batch_size):
        batch = list(data[at : at + batch_size])
        outputs = client.forward(batch, "cross_entropy").result().loss_fn_outputs
        for datum, output in zip(batch, outputs, strict=True):
            weights = np.asarray(datum.loss_fn_inputs["weights"].data, dtype=np.float64)  # (T,)
            logprobs = np.asarray(output["logprobs"].data, dtype=np.float64)  # (T,)
            total -= float(weights @ logprobs)
            count += int(np.count_nonzero(weights))
    return total / count
