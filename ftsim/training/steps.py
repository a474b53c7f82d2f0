"""One optimizer step as the SDK's calls, submitted together and awaited later."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ftsim.training.sdk import types

CustomLoss = Callable[[list[Any], list[Any]], tuple[Any, dict[str, float]]]
"""What `forward_backward_custom` calls: datums and their log-probabilities (T,) to a scalar loss and metrics."""


@dataclass(frozen=True)
class Submitted:
    """The futures of one step; `result` blocks until it is done."""

    losses: Sequence[Any]
    update: Any

    def result(self) -> tuple[dict[str, float], dict[str, float]]:
        """Loss metrics summed over micro-batches, and the optimizer's metrics."""
        total: dict[str, float] = {}
        for future in self.losses:
            for name, value in future.result().metrics.items():
                total[name] = total.get(name, 0.0) + float(value)
        return total, dict(self.update.result().metrics or {})


def submit(
    client: Any,
    micro_batches: Sequence[Sequence[Any]],
    loss_fn: str,
    learning_rate: float,
    config: Any,
    loss_config: Mapping[str, float] | None = None,
) -> Submitted:
    """Queue a step: gradients of every micro-batch, then one update by their mean over loss tokens.

    The server keeps the order of submission, so nothing is awaited here; await it before any save (B6).
    """
    losses = [
        client.forward_backward(list(batch), loss_fn, dict(loss_config) if loss_config else None)
        for batch in micro_batches
    ]
    update = client.optim_step(adam_params(learning_rate, config), grad_accumulation_normalization="num_loss_tokens")
    return Submitted(losses, update)


def submit_custom(
    client: Any, micro_batches: Sequence[tuple[Sequence[Any], CustomLoss]], learning_rate: float, config: Any
) -> Submitted:
    """As `submit`, with a loss computed here for each micro-batch and no normalisation by the server.

    Blocks until the server has the log-probabilities, that is, until all it was sent before is done.
    """
    losses = [client.forward_backward_custom(list(batch), loss) for batch, loss in micro_batches]
    return Submitted(losses, client.optim_step(adam_params(learning_rate, config)))


def adam_params(learning_rate: float, config: Any) -> Any:
    """The optimizer settings of one step."""
    return types.AdamParams(
        learning_rate=learning_rate,
        beta1=config.beta1,
        beta2=config.beta2,
        eps=config.eps,
        weight_decay=config.weight_decay,
        grad_clip_norm=config.grad_clip_norm,
    )


def mean_loss(client: Any, data: Sequence[Any], batch_size: int) -> float:
    """Cross-entropy per loss token over `data`, without touching gradients."""
    total = count = 0.0
    for at in range(0, len(data), batch_size):
        batch = list(data[at : at + batch_size])
        outputs = client.forward(batch, "cross_entropy").result().loss_fn_outputs
        for datum, output in zip(batch, outputs, strict=True):
            weights = np.asarray(datum.loss_fn_inputs["weights"].data, dtype=np.float64)  # (T,)
            logprobs = np.asarray(output["logprobs"].data, dtype=np.float64)  # (T,)
            total -= float(weights @ logprobs)
            count += float(weights.sum())
    return total / count
