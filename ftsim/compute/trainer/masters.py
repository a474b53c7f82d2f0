"""Float32 masters of trained weights that are computed with in half precision.

A bfloat16 weight keeps 8 bits of a number: a step that moves it by less than a 256th of itself would be lost. Steps
move the masters; what is computed with is their rounding, made anew after each step. Gradients are summed in float32,
over the micro-batches of a request and over requests.
"""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor


class Masters:
    """The weights that an optimizer moves, by name: float32 copies of those in half precision, else themselves."""

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self.computed: Mapping[str, Tensor] = parameters
        """The weights that the model computes with."""
        self.trained: Mapping[str, Tensor] = {name: _master(value) for name, value in parameters.items()}
        self._pairs = [
            (value, self.trained[name]) for name, value in parameters.items() if value is not self.trained[name]
        ]
        for value, master in self._pairs:
            value.register_post_accumulate_grad_hook(partial(_pass_on, master))  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def publish(self) -> None:
        """Let the model compute with what the masters are now."""
        for value, master in self._pairs:
            value.copy_(master)

    @torch.no_grad()
    def adopt(self) -> None:
        """Let the masters be what the model computes with."""
        for value, master in self._pairs:
            master.copy_(value)


def _master(value: Tensor) -> Tensor:
    return value if value.dtype == torch.float32 else value.detach().float().requires_grad_()


def _pass_on(master: Tensor, value: Tensor) -> None:
    """Add a gradient that has just arrived to the master's."""
    assert value.grad is not None
    grad = value.grad.float()
    master.grad = grad if master.grad is None else master.grad.add_(grad)
    value.grad = None
