"""Small models that were built before: a second one of the same folder and settings is a copy, in a tenth of the time.

Parameters that are not trained are shared by all copies, so that many adapters on one base need one base. What is
trained, and every buffer, is a copy's own. Only models on the CPU are kept: moving one to another device would move
what the others share.
"""

import copy
import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

LARGEST = 64 << 20
"""Bytes of parameters beyond which a model is built anew each time."""
KEPT = 8
"""How many models are kept, those asked for last."""
Model = TypeVar("Model", bound=nn.Module)
Facts = TypeVar("Facts")
_TABLES = ("_parameters", "_buffers", "_modules")
_PLAIN = frozenset({bool, int, float, str, type(None)})


class Prototypes:
    """Models by what they were built from; safe among threads."""

    def __init__(self, kept: int = KEPT, largest: int = LARGEST) -> None:
        self._kept, self._largest = kept, largest
        self._models: OrderedDict[Hashable, tuple[nn.Module, object]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, build: Callable[[], tuple[Model, Facts]]) -> tuple[Model, Facts]:
        """A copy of the model kept under `key`, which decides all of it, else of the one that `build` makes.

        What comes with the model is never changed, and shared.
        """
        with self._lock:
            if (known := self._models.get(key)) is not None:
                self._models.move_to_end(key)
                return cast(Model, copied(known[0])), cast(Facts, known[1])
        made, facts = build()
        if not self._fits(made):
            return made, facts
        with self._lock:
            self._models[key] = made, facts
            while len(self._models) > self._kept:
                self._models.popitem(last=False)
            return copied(made), facts

    def _fits(self, model: nn.Module) -> bool:
        size = sum(value.numel() * value.element_size() for value in model.parameters())
        return size <= self._largest and all(_is_plain(module) for module in model.modules())


def identity(folder: Path) -> Hashable:
    """Says which files a folder holds: it changes when one of them is written again or replaced."""
    found = []
    for path in sorted(folder.rglob("*")):
        facts = path.stat()
        found.append((str(path), facts.st_ino, facts.st_size, facts.st_mtime_ns))
    return tuple(found)


def copied(model: Model) -> Model:
    """The same model with trained parameters and buffers of its own; parameters without gradients are shared."""
    modules = list(model.modules())
    twins: dict[int, Any] = {id(module): module.__class__.__new__(module.__class__) for module in modules}
    with torch.no_grad():  # once, and no detached view of each: a call into torch gives other threads their turn
        held_by = ((*module._parameters.values(), *module._buffers.values()) for module in modules)
        for value in itertools.chain.from_iterable(held_by):
            if value is not None and id(value) not in twins:
                twins[id(value)] = _own(value)
    for module in modules:
        state = {
            name: value if type(value) in _PLAIN else _twin(value, twins)
            for name, value in vars(module).items()
            if name not in _TABLES
        }
        for table in _TABLES:
            held = vars(module)[table]
            state[table] = {name: None if value is None else twins[id(value)] for name, value in held.items()}
        vars(twins[id(module)]).update(state)
    return cast(Model, twins[id(model)])


def _own(value: Tensor) -> Tensor:
    """A parameter that is trained, or a buffer, again; a frozen parameter itself."""
    if not isinstance(value, nn.Parameter):
        return value.clone()
    return nn.Parameter(value.clone()) if value.requires_grad else value


def _twin(value: Any, twins: dict[int, Any]) -> Any:
    """An attribute for the copy of a module: modules and their methods are those of the copy, containers its own.

    What two modules share, such as settings, their copies share.
    """
    if isinstance(value, MethodType):
        return MethodType(value.__func__, twins.get(id(value.__self__), value.__self__))
    if id(value) in twins:
        return twins[id(value)]
    twin: Any = value
    if isinstance(value, dict):
        if not value:  # the hooks that there could be: ten of these for every module
            return value.copy()
        twin = twins[id(value)] = value.copy()
        for name, held in value.items():
            twin[name] = _twin(held, twins)
    elif isinstance(value, list | set):
        twin = twins[id(value)] = type(value)(_twin(held, twins) for held in value)
    elif _is_settings(value):
        twin = twins[id(value)] = copy.copy(value)
    return twin


def _is_settings(value: object) -> bool:
    """Tell whether a module's own settings are held, which are changed in place: peft's and transformers' configs."""
    return type(value).__name__.endswith("Config")


def _is_plain(module: nn.Module) -> bool:
    """Tell whether a copy of the module's attributes does what the module does: no hooks, no patched calls."""
    for name, value in vars(module).items():
        if name.endswith("_hooks") and value:
            return False
        if isinstance(value, FunctionType | Tensor):
            return False
    return True
