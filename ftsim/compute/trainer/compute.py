"""Between a micro-batch and a response: checks, and one record per datum."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from emulator.backend import BackendError
from ftsim.compute.trainer.batching import Datum, MicroBatch, array_record

LOWEST_LOGPROB = -1e30  # JSON knows no -Infinity (WIRE 2.8)


@dataclass
class Done:
    """The work on datums so far: a record for each, the loss, and how many positions and datums had a slope."""

    outputs: list[dict[str, Any]]
    total: float = 0.0
    tokens: int = 0
    sequences: int = 0

    @classmethod
    def of(cls, datums: Sequence[Datum]) -> "Done":
        return cls([{} for _ in datums])


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


def fill(outputs: list[dict[str, Any]], micro: MicroBatch, **tensors: Tensor) -> None:
    """Cut tensors over real positions into one record per datum."""
    for name, tensor in tensors.items():
        host = tensor.cpu()
        if host.is_floating_point():
            host = host.clamp(min=LOWEST_LOGPROB)
        dtype = "float32" if host.is_floating_point() else "int64"
        told = micro.told or [None] * len(micro.lengths)
        for index, part, kept in zip(micro.order, torch.split(host, list(micro.lengths)), told, strict=True):
            outputs[index][name] = array_record(part if kept is None else part[kept], dtype)


def result(outputs: list[dict[str, Any]], metrics: Mapping[str, float]) -> Mapping[str, Any]:
    return {"loss_fn_output_type": "ArrayRecord", "loss_fn_outputs": outputs, "metrics": dict(metrics)}
