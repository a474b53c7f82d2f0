"""The ranks of a group as one of them sees them: who it is, and what all of them say together."""

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from emulator.backend import BackendError
from ftsim.compute.trainer.batching import Datum

T = TypeVar("T")


class Ranks:
    """A process group, of which this process is `rank`, from 0 to `size` - 1. Every method is collective."""

    def __init__(self, device: torch.device) -> None:
        if not dist.is_initialized():
            dist.init_process_group(backend_for(device.type, nccl=dist.is_nccl_available()))
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()

    def all(self, mine: T) -> list[T]:
        """The values of all ranks, in their order."""
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, mine)
        return found

    def agree(self, error: Exception | None) -> None:
        """Raise the first error that a rank has, on every rank."""
        for one in self.all(error):
            if one is not None:
                raise one

    def at_first(self, mine: T) -> list[T]:
        """The values of all ranks, on the first one; an empty list on the others."""
        found: list[Any] | None = [None] * self.size if self.rank == 0 else None
        dist.gather_object(mine, found)
        return found or []

    def most(self, mine: int) -> int:
        """The largest of a number that each rank has."""
        value = torch.tensor(mine)
        dist.all_reduce(value, dist.ReduceOp.MAX)
        return int(value)

    def add_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Let every rank's gradients be the sum of all ranks'; None stays where no rank has one."""
        there = torch.tensor([value.grad is not None for value in parameters], dtype=torch.uint8)
        dist.all_reduce(there, dist.ReduceOp.MAX)
        moved = [value for value, known in zip(parameters, there.tolist(), strict=True) if known]
        if not moved:
            return
        flat = torch.cat([(torch.zeros_like(v) if v.grad is None else v.grad).reshape(-1) for v in moved])
        dist.all_reduce(flat)
        for value, grad in zip(moved, torch.split(flat, [value.numel() for value in moved]), strict=True):
            value.grad = grad.view_as(value).clone()

    def check_alike(self, what: str, tensors: Sequence[Tensor]) -> None:
        """Raise where a rank holds other numbers than the others: each has made them for itself."""
        sums = [float(value.detach().double().sum()) for value in tensors]
        if any(other != sums for other in self.all(sums)):
            raise BackendError(f"the ranks of the group hold different {what}", "server")


def backend_for(device_type: str, *, nccl: bool) -> str:
    """The backend of torch.distributed for tensors on a device; what ranks tell each other is on CPUs, over gloo."""
    if device_type == "cpu":
        return "gloo"
    if device_type != "cuda" or not nccl:
        raise BackendError(
            f"ranks on {device_type} devices would need a backend that this torch lacks: compute on CPUs", "server"
        )
    return "cpu:gloo,cuda:nccl"


def place(device: str, local_rank: int, devices: int) -> str:
    """The device of a rank, of so many that its machine has of this type: each rank has one to itself."""
    if device == "cpu":
        return device
    if ":" in device:
        raise BackendError(
            f"the ranks of a trainer group would all compute on {device}: leave out its number", "server"
        )
    if local_rank >= devices:
        raise BackendError(
            f"this machine has {devices} devices for ranks: give a trainer group no more ranks than that on it",
            "server",
        )
    return f"{device}:{local_rank}"


def share(datums: Sequence[Datum], ranks: int) -> list[list[int]]:
    """The datums of each rank, by their place in the request: the longest first, each to who has the fewest tokens."""
    shares: list[list[int]] = [[] for _ in range(ranks)]
    tokens = [0] * ranks
    for index in sorted(range(len(datums)), key=lambda i: -len(datums[i])):
        least = tokens.index(min(tokens))
        shares[least].append(index)
        tokens[least] += len(datums[index])
    return [sorted(one) for one in shares]
