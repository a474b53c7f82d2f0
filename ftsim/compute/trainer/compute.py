"""Between a micro-batch and a response: checks, log-probabilities, one record per datum."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from emulator.backend import BackendError
from ftsim.compute.trainer.batching import Datum, MicroBatch, array_record
from ftsim.compute.trainer.live import LiveModel

LOWEST_LOGPROB = -1e30  # JSON knows no -Infinity (WIRE 2.8)


def check(datums: Sequence[Datum], needed: Sequence[str], *, multi_target: bool = True) -> None:
    """Every datum has its targets and the tensors its loss needs, in one shape."""
    for index, datum in enumerate(datums):
        for name in ("target_tokens", *needed):
            if name not in datum.tensors:
                raise BackendError(f"datum {index}: missing required field {name!r}")
        shape = datum.tensors["target_tokens"].shape
        if len(shape) == 2 and not multi_target:
            raise BackendError(f"datum {index}: only cross_entropy takes target_tokens of shape [T, K]")
        for name, tensor in datum.tensors.items():
            if name in ("weights", *needed) and tensor.shape != shape:
                raise BackendError(
                    f"datum {index}: {name!r} has shape {list(tensor.shape)}, target_tokens has {list(shape)}"
                )


def logits_of(model: LiveModel, micro: MicroBatch) -> Tensor:
    """Scores of every position, padding included, (B * L, V) in float32."""
    with nullcontext() if micro.routes is None else model.routers.replayed(micro.routes):
        logits: Tensor = model.model(input_ids=micro.input_ids, use_cache=False).logits  # (B, L, V)
    return logits.flatten(0, 1).float()


def logprobs_of(logits: Tensor, micro: MicroBatch) -> Tensor:
    """Log-probabilities of the targets, (N,) or (N, K); `logits` is (B * L, V)."""
    targets = micro.targets()
    wanted = targets if targets.dim() == 2 else targets[:, None]
    lp = micro.pick(torch.log_softmax(logits, dim=-1).gather(1, wanted))
    if bool(lp.isnan().any()):
        raise BackendError("log-probabilities are NaN: the weights have diverged; load an earlier checkpoint")
    return lp if targets.dim() == 2 else lp[:, 0]


def fill(outputs: list[dict[str, Any]], micro: MicroBatch, **tensors: Tensor) -> None:
    """Cut tensors over real positions into one record per datum."""
    for name, tensor in tensors.items():
        host = tensor.cpu()
        if host.is_floating_point():
            host = host.clamp(min=LOWEST_LOGPROB)
        dtype = "float32" if host.is_floating_point() else "int64"
        for index, part in zip(micro.order, torch.split(host, list(micro.lengths)), strict=True):
            outputs[index][name] = array_record(part, dtype)


def result(outputs: list[dict[str, Any]], metrics: Mapping[str, float]) -> Mapping[str, Any]:
    return {"loss_fn_output_type": "ArrayRecord", "loss_fn_outputs": outputs, "metrics": dict(metrics)}
