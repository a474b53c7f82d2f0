"""Tensors of which each rank of a group holds a part, and questions whose answer must be the same on every rank.

Of a sharded tensor, torch answers some questions by the rank's own part: `bool(isfinite(value).all())`, `torch.equal`,
`value.norm().item()`. Here the ranks agree. For tensors that are whole, each function does what torch does.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm


def is_sharded(value: Tensor) -> bool:
    """Tell whether a tensor is spread over ranks."""
    return hasattr(value, "device_mesh")


@torch.no_grad()
def local(value: Tensor) -> Tensor:
    """The rank's own part, in the memory of the whole; a tensor that is not sharded is itself."""
    if not is_sharded(value):
        return value
    sharded: Any = value
    own: Tensor = sharded.to_local()
    return own


def memory(value: Tensor) -> int:
    """The address of the memory in which the numbers of a tensor lie, or the rank's own part of them."""
    return local(value).untyped_storage().data_ptr()


def all_finite(values: Sequence[Tensor]) -> bool:
    """Tell whether every number is finite, on all ranks."""
    parts = [part for value in values if (part := local(value)).numel()]
    finite = not parts or bool(torch.stack(torch._foreach_norm(parts, math.inf)).isfinite().all())
    if not any(map(is_sharded, values)):
        return finite
    flag = torch.tensor(float(finite))
    _reduce(flag, "MIN")
    return bool(flag)


def total_norm(values: Sequence[Tensor]) -> Tensor:
    """The norm of all numbers together, as `torch.nn.utils.get_total_norm`; alike on all ranks."""
    if not any(map(is_sharded, values)):
        return get_total_norm(values)
    parts = [part for value in values if (part := local(value)).numel()]
    squares = (
        torch.stack(torch._foreach_norm(parts)).double().square().sum().cpu()
        if parts
        else torch.zeros((), dtype=torch.double)
    )
    _reduce(squares, "SUM")
    return squares.sqrt().float()


@torch.no_grad()
def clip(named: Mapping[str, Tensor], most: float, norm: Tensor) -> None:
    """Scale the gradients of parameters down to a norm of at most `most`, given what their norm is."""
    if not any(map(is_sharded, named.values())):
        clip_grads_with_norm_(list(named.values()), most, norm)
        return
    grads = [local(value.grad) for value in named.values() if value.grad is not None]
    torch._foreach_mul_(grads, float((most / (norm + 1e-6)).clamp(max=1.0)))


def locals_of(values: Iterable[Tensor]) -> list[Tensor]:
    """The rank's own parts of several tensors."""
    return [local(value) for value in values]


def _reduce(value: Tensor, how: str) -> None:
    import torch.distributed as dist

    dist.all_reduce(value, getattr(dist.ReduceOp, how))
