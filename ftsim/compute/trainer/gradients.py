"""Gradients of one operation, kept apart until it is known that it went well."""

from torch import Tensor

from emulator.backend import BackendError
from ftsim.compute.trainer import shards
from ftsim.compute.trainer.live import LiveModel


class Gradients:
    """Collects the gradients of one operation apart from the accumulated ones, and adds them only when it went well."""

    def __init__(self, model: LiveModel) -> None:
        self._parameters = list(model.trained.values())
        self._before: list[Tensor | None] = []
        self._kept = False

    def __enter__(self) -> "Gradients":
        self._before = [value.grad for value in self._parameters]
        for value in self._parameters:
            value.grad = None
        return self

    def keep(self) -> None:
        """Add to what was accumulated before; raises `BackendError` when the sum is not finite."""
        for value, before in zip(self._parameters, self._before, strict=True):
            if before is not None:
                value.grad = before if value.grad is None else value.grad.add_(before)
        grads = [value.grad for value in self._parameters if value.grad is not None]
        if grads and not shards.all_finite(grads):
            raise BackendError("the gradient is NaN or infinite; the weights or the loss inputs are out of range")
        self._kept = True

    def __exit__(self, *_: object) -> None:
        if not self._kept:
            for value, before in zip(self._parameters, self._before, strict=True):
                value.grad = before
