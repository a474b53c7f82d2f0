"""Batch-invariant sampling: small models compute in float64, so that the rows of a batch leave no trace on each other.

A float32 matrix product gives a row other last bits when it is computed with other rows, so a sample's log-probability
would depend on which requests happened to share a step. In float64 what differs lies far below what float32, in which
log-probabilities are handed out, can show: a resumed run sees the very numbers of the uninterrupted one.
"""

import dis
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ftsim.compute.standins.model import StandIn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LARGEST_BYTES = 64 << 20
"""Weight files beyond which speed matters more than equal bits."""


def is_batch_invariant(folder: Path, device: str, dtype: torch.dtype) -> bool:
    """Tell whether the model in `folder` is served in float64: small, on a CPU, and asked for in float32."""
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return device == "cpu" and dtype == torch.float32 and size <= LARGEST_BYTES


def widen(model: "PreTrainedModel") -> "PreTrainedModel":
    """Turn the weights of `model` into float64, in place; `Precision` does the rest while the model runs."""
    model.double()
    if getattr(model.config, "_experts_implementation", None) is not None:
        model.set_experts_implementation("eager")  # the fused product knows no float64
    return model


class Precision:
    """Keeps a float64 model in float64 where its own code asks for float32; does nothing to another model.

    A `StandIn` computes in the type of its weights by itself.

    Norms, softmax, rotary angles and routers of transformers go over float32 whatever the weights are, for the sake of
    half precision. Their formulas stay the model's own: only the type that they name becomes a wider one. To look at
    every torch call costs more than a small model's decoding step, so the first step notes which classes of modules
    ask. From then on their `forward` names the wider type itself; where helpers of it ask, as the second step notes,
    later steps look at the calls of these modules alone.
    """

    def __init__(self, model: "PreTrainedModel") -> None:
        self._model = model
        self._wide = model.dtype == torch.float64 and not isinstance(model, StandIn)
        self._noted = 0
        self._stepping = False
        self._entered: list[_StayWide] = []

    @contextmanager
    def everywhere(self) -> Iterator[None]:
        """Widen whatever is computed inside: for prompts, whose matrix products outweigh the looking."""
        with _StayWide() if self._wide else nullcontext():
            yield

    @contextmanager
    def step(self) -> Iterator[None]:
        """Widen one decoding step."""
        if self._wide and self._noted < 2:
            with self._noting() as asking:
                yield
            (self._rename, self._hook)[self._noted](asking)
            self._noted += 1
            return
        self._stepping = self._wide
        try:
            yield
        finally:
            self._stepping = False

    @contextmanager
    def _noting(self) -> Iterator[set[type[nn.Module]]]:
        """Widen everywhere; gives the classes of the innermost modules that asked for float32."""
        running: list[type[nn.Module]] = []
        asking: set[type[nn.Module]] = set()

        def leave(*_: object) -> None:
            running.pop()

        hooks = [
            hook
            for module in self._model.modules()
            for hook in (
                module.register_forward_pre_hook(lambda module, _: running.append(type(module))),
                module.register_forward_hook(leave, always_call=True),
            )
        ]
        try:
            with _StayWide(lambda: asking.update(running[-1:])):
                yield asking
        finally:
            for hook in hooks:
                hook.remove()

    def _rename(self, kinds: set[type[nn.Module]]) -> None:
        """Give modules of these classes the formula of their class, with the wider type named in it."""
        wider = {kind: _wider(kind.forward) for kind in kinds}
        for module in self._model.modules():
            if (forward := wider.get(type(module))) is not None and "forward" not in vars(module):
                module.forward = MethodType(forward, module)

    def _hook(self, kinds: set[type[nn.Module]]) -> None:
        for module in self._model.modules():
            if type(module) in kinds:
                module.register_forward_pre_hook(self._enter)
                module.register_forward_hook(self._leave, always_call=True)

    def _enter(self, *_: object) -> None:
        if self._stepping:
            self._entered.append(mode := _StayWide())
            mode.__enter__()  # type: ignore[no-untyped-call]

    def _leave(self, *_: object) -> None:
        if self._stepping:
            self._entered.pop().__exit__(None, None, None)  # type: ignore[no-untyped-call]


def _wider(forward: Callable[..., Any]) -> FunctionType | None:
    """The same function with float64 where it names float32, as long as that is all there is to it.

    None for one inside a decorator, or one that calls Python's own `float`.
    """
    if not isinstance(forward, FunctionType) or forward.__closure__:
        return None
    code = forward.__code__
    if any(step.opname == "LOAD_GLOBAL" and step.argval == "float" for step in dis.get_instructions(code)):
        return None
    names = tuple({"float32": "float64", "float": "double"}.get(name, name) for name in code.co_names)
    made = FunctionType(code.replace(co_names=names), forward.__globals__, forward.__name__, forward.__defaults__)
    made.__kwdefaults__ = forward.__kwdefaults__
    return made


class _StayWide(TorchFunctionMode):
    """Gives float64 to whoever asks torch for float32; `asked` is called when somebody does."""

    def __init__(self, asked: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self._asked = asked

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is Tensor.float:
            func = Tensor.double
            self._asked()
        for value in args:
            if value is torch.float32:  # no `in`: it would compare tensors
                args = [torch.float64 if value is torch.float32 else value for value in args]
                self._asked()
                break
        if not kwargs:
            return func(*args)
        if kwargs.get("dtype") is torch.float32:
            kwargs = {**kwargs, "dtype": torch.float64}
            self._asked()
        return func(*args, **kwargs)
