"""The experts that a mixture of experts chose: noted while a sampler runs, used again while a trainer does.

A router of transformers scores the experts, takes the best by `topk`, and weighs them by its own formula. To replay a
choice its `topk` gives the recorded experts instead: whatever the family computes from their scores stays the family's,
and so do the gradients.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from emulator.backend import BackendError

Choose = Callable[[int, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Takes a layer, the values and indices (tokens, chosen) of its best experts and all scores; gives values, indices."""


@dataclass(frozen=True)
class RouteShape:
    """The shape of a position's choice: `chosen` of `experts` in each of `layers`."""

    layers: int
    chosen: int
    experts: int

    @property
    def dtype(self) -> npt.DTypeLike:
        """The type of an expert's number on the wire: one byte where that is enough, else two, little-endian."""
        return np.dtype(np.uint8 if self.experts <= 256 else "<u2")

    @property
    def size(self) -> int:
        """Bytes of one position."""
        return self.layers * self.chosen * np.dtype(self.dtype).itemsize

    def pack(self, choice: Tensor) -> bytes:
        """The bytes of one position's choice (layers, chosen)."""
        return choice.numpy().astype(self.dtype).tobytes()

    def unpack(self, entries: Mapping[int, bytes], length: int) -> npt.NDArray[np.int64]:
        """Choices by position, as (length, layers, chosen) with -1 where there is none.

        Raises `BackendError` that names the position of what no router of this shape chose.
        """
        size = self.size
        if set(map(len, entries.values())) - {size}:
            at, raw = next((at, raw) for at, raw in entries.items() if len(raw) != size)
            raise BackendError(
                f"position {at} has {len(raw)} bytes; {self.layers} MoE layers with {self.chosen} experts each "
                f"make {size}"
            )
        given = np.frombuffer(b"".join(entries.values()), dtype=self.dtype).reshape(-1, self.layers, self.chosen)
        ordered = np.sort(given, axis=-1)
        twice, unknown = ordered[..., 1:] == ordered[..., :-1], ordered[..., -1:] >= self.experts
        if twice.any() or unknown.any():
            wrong = (twice.any(-1) | unknown.any(-1)).any(-1)
            at, choice = list(entries)[int(wrong.argmax())], given[int(wrong.argmax())]
            if choice.max() >= self.experts:
                raise BackendError(f"position {at} names expert {choice.max()}; there are {self.experts}")
            raise BackendError(f"position {at} names an expert twice in one layer, so that another one is missing")
        routes = np.full((length, self.layers, self.chosen), -1, dtype=np.int64)
        routes[list(entries)] = given
        return routes


class Routers:
    """The routers of one model, in the order of its layers."""

    def __init__(self, model: nn.Module) -> None:
        found = [module for module in model.modules() if _is_router(module)]
        kinds = {(int(one.top_k), int(one.num_experts)) for one in found}  # type: ignore[arg-type]
        self._routers: Sequence[nn.Module] = found if len(kinds) == 1 else ()
        self.shape = RouteShape(len(found), *kinds.pop()) if len(kinds) == 1 else None
        """None for a model without experts, or with layers that choose unlike numbers of them."""

    @contextmanager
    def noted(self) -> Iterator[list[Tensor]]:
        """Note each layer's choice (tokens, chosen) while the model runs once."""
        choices: list[Tensor] = []

        def note(layer: int, values: Tensor, indices: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
            choices.append(indices)
            return values, indices

        with self._watched(note):
            yield choices

    @contextmanager
    def replayed(self, routes: Tensor) -> Iterator[None]:
        """Let the model run once on `routes` (tokens, layers, chosen), by its own choice where they hold -1.

        Raises `BackendError` when a router did not take its experts as it should.
        """
        done: set[int] = set()

        def choose(layer: int, values: Tensor, indices: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
            done.add(layer)
            wanted = routes[:, layer].to(indices)
            forced = torch.where(wanted < 0, indices, wanted)
            return scores.gather(-1, forced), forced

        with self._watched(choose):
            yield
        if len(done) != len(self._routers):
            raise BackendError("a router of this family does not let its choice be replayed", "server")

    @contextmanager
    def _watched(self, choose: Choose) -> Iterator[None]:
        hooks = []
        for layer, router in enumerate(self._routers):
            mode = _Chosen(router, layer, choose)
            hooks.append(router.register_forward_pre_hook(mode.enter))
            hooks.append(router.register_forward_hook(mode.leave, prepend=True, always_call=True))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def _is_router(module: nn.Module) -> bool:
    named = "router" in type(module).__name__.lower()
    return named and isinstance(getattr(module, "top_k", None), int) and hasattr(module, "num_experts")


class _Chosen(TorchFunctionMode):
    """Sees the call of `topk` by which one router takes its experts: that over all of them, for every token."""

    def __init__(self, router: Any, layer: int, choose: Choose) -> None:
        super().__init__()
        self._layer, self._choose = layer, choose
        self._width, self._count = router.num_experts, router.top_k

    def enter(self, *_: object) -> None:
        self.__enter__()  # type: ignore[no-untyped-call]

    def leave(self, *_: object) -> None:
        self.__exit__(None, None, None)  # type: ignore[no-untyped-call]

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func not in (torch.topk, Tensor.topk):
            return result
        scores, (values, indices) = args[0], result
        if scores.dim() != 2 or scores.shape[-1] != self._width or indices.shape[-1] != self._count:
            return result  # it is of groups of experts
        return self._choose(self._layer, values, indices, scores)
