"""Low-rank adapters on a stand-in: places, start, product and names are those of peft, which opens what is saved.

A matrix W gets B A * alpha / rank beside it. Experts get one pair for each of their two stacks, in which the pairs of
all experts lie side by side; peft wraps the layer once for each stack, and names follow from that.
"""

import importlib.metadata
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ftsim.compute.standins.layers import Experts, Linear, MixtureOfExperts
from ftsim.compute.standins.model import StandIn

ADAPTER = "default"
TRAINED = ("qwen3", "qwen3_moe")
"""Architectures whose adapters are trained here. For the others peft changes ranks and places by rules of transformers,
made for models whose experts used to be modules of their own; those adapters stay its own."""
_STACKS = ("gate_up_proj", "down_proj")
"""Stacks of experts' matrices, in the order in which they are wrapped."""
_UNUSED: Mapping[str, Any] = {
    "alora_invocation_tokens": None, "alpha_pattern": {}, "arrow_config": None, "auto_mapping": None, "bias": "none",
    "corda_config": None, "ensure_weight_tying": False, "eva_config": None, "exclude_modules": None,
    "fan_in_fan_out": False, "inference_mode": False, "init_lora_weights": True, "kasa_config": None,
    "layer_replication": None, "layers_pattern": None, "layers_to_transform": None, "loftq_config": {},
    "lora_bias": False, "lora_dropout": 0.0, "lora_ga_config": None, "megatron_config": None,
    "megatron_core": "megatron.core", "modules_to_save": None, "monteclora_config": None, "peft_type": "LORA",
    "qalora_group_size": 16, "rank_pattern": {}, "revision": None, "task_type": "CAUSAL_LM",
    "trainable_token_indices": None, "use_bdlora": None, "use_dora": False, "use_qalora": False, "use_rslora": False,
    "velora_config": None,
}  # fmt: skip
"""The rest of what peft can do, switched off: the settings of an adapter that is nothing but pairs of matrices."""
_INERT = frozenset(
    {"alpha_pattern", "inference_mode", "megatron_core", "qalora_group_size", "rank_pattern", "revision"}
)


class Pair(nn.Module):
    """The two matrices of an adapter, under the names that peft gives them."""

    def __init__(self, inputs: int, outputs: int, rank: int, scale: float, like: Tensor) -> None:
        """Make them without values; `rank` is that of all experts together."""
        super().__init__()
        self.scale = scale
        self.lora_A = nn.ModuleDict({ADAPTER: Linear(inputs, rank).to(like)})
        self.lora_B = nn.ModuleDict({ADAPTER: Linear(rank, outputs).to(like)})

    def start(self) -> None:
        """Draw A from torch's global random numbers and let B be zero, by the very draws that peft makes."""
        first, second = self.halves
        for drawn in (first, second, first):  # its layers draw for themselves before peft does
            nn.init.kaiming_uniform_(drawn, a=5**0.5)
        nn.init.zeros_(second)

    @property
    def halves(self) -> tuple[Tensor, Tensor]:
        """A (rank, inputs) and B (outputs, rank)."""
        return self.lora_A[ADAPTER].weight, self.lora_B[ADAPTER].weight  # type: ignore[return-value]


class AdaptedLinear(Pair):
    """A matrix with an adapter beside it."""

    def __init__(self, base: nn.Linear, rank: int, scale: float) -> None:
        super().__init__(base.in_features, base.out_features, rank, scale, base.weight)
        _first(self, base)
        self.base_layer = base

    def forward(self, states: Tensor) -> Tensor:
        added: Tensor = self.lora_B[ADAPTER](self.lora_A[ADAPTER](states))
        made: Tensor = self.base_layer(states) + added * self.scale
        return made

    def merge(self) -> nn.Linear:
        """Fold the adapter into the matrix."""
        first, second = self.halves
        self.base_layer.weight.data += (second @ first) * self.scale
        return self.base_layer


class AdaptedExperts(Pair):
    """A layer of experts with adapters beside one of its two stacks of matrices."""

    def __init__(self, base: "Experts | AdaptedExperts", stack: str, rank: int, scale: float) -> None:
        weight: Tensor = getattr(_experts(base), stack)
        count, outputs, inputs = weight.shape
        super().__init__(inputs, outputs, rank * count, scale, weight)
        _first(self, base)
        self.base_layer, self.stack, self.count = base, stack, count

    def forward(self, states: Tensor, weights: Tensor, chosen: Tensor, **stacks: Tensor) -> Tensor:
        first, second = self.halves
        left = second.reshape(len(second), -1, self.count).permute(2, 0, 1)  # (E, outputs, rank)
        right = first.reshape(self.count, -1, first.shape[-1])  # (E, rank, inputs)
        weight: Tensor = getattr(_experts(self), self.stack)
        stacks[self.stack] = torch.baddbmm(weight, left, right, alpha=self.scale)
        made: Tensor = self.base_layer(states, weights, chosen, **stacks)
        return made

    def wrappers(self) -> "list[AdaptedExperts]":
        """This and what it wraps besides the experts, the outermost first."""
        below = self.base_layer.wrappers() if isinstance(self.base_layer, AdaptedExperts) else []
        return [self, *below]

    def merge(self) -> nn.Module:
        """Fold the adapter, and the one below, into the experts' matrices."""
        first, second = self.halves
        left, right = second.reshape(len(second), -1, self.count), first.reshape(self.count, -1, first.shape[-1])
        getattr(_experts(self), self.stack).data += torch.einsum("o r e, e r i -> e o i", left, right) * self.scale
        return self.base_layer.merge() if isinstance(self.base_layer, AdaptedExperts) else self.base_layer


class _Holder(nn.Module):
    """Holds the model one level deeper: peft's names begin with `base_model.model`."""

    def __init__(self, model: StandIn) -> None:
        super().__init__()
        self.model = model


class AdaptedStandIn(nn.Module):
    """A stand-in with adapters."""

    def __init__(
        self, model: StandIn, rank: int, alpha: float, modules: Sequence[str], parameters: Sequence[str]
    ) -> None:
        """Put adapters on the modules that `modules` name, whole or by their last part, and on stacks of experts.

        Everything else is frozen. The adapters have no values yet: `start` them or load some.
        """
        super().__init__()
        model.requires_grad_(False)
        self.rank, self.alpha = rank, alpha
        self.modules_adapted, self.parameters_adapted = sorted(modules), sorted(parameters)
        for name, module in [*model.named_modules()]:
            if isinstance(module, nn.Linear) and _named(name, modules):
                _put(model, name, AdaptedLinear(module, rank, alpha / rank))
        for name, module in [*model.named_modules()]:
            if isinstance(module, Experts):
                wrapped: Experts | AdaptedExperts = module
                for stack in _STACKS:
                    if _named(f"{name}.{stack}", parameters):
                        wrapped = AdaptedExperts(wrapped, stack, rank, alpha / rank)
                _put(model, name, wrapped)
        self.base_model = _Holder(model)

    def forward(self, **given: Any) -> Any:
        """As the model without adapters."""
        return self.base_model.model(**given)

    def start(self) -> None:
        """Give the adapters the values that they are trained from."""
        for linear in self.modules():
            if isinstance(linear, AdaptedLinear):
                linear.start()
        for layer in self.modules():  # peft comes to experts last, and to the inner of two wrapped stacks first
            if isinstance(layer, MixtureOfExperts) and isinstance(layer.experts, AdaptedExperts):
                for stack in reversed(layer.experts.wrappers()):
                    stack.start()

    def get_base_model(self) -> StandIn:
        """The model, its adapters in it."""
        return self.base_model.model

    def set_alpha(self, alpha: float) -> None:
        """Multiply the adapters by alpha / rank from now on."""
        self.alpha = alpha
        for pair in self.modules():
            if isinstance(pair, Pair):
                pair.scale = alpha / self.rank

    def merge_and_unload(self) -> StandIn:
        """Fold the adapters into the weights; gives the model without them."""
        model = self.get_base_model()
        for name, module in [*model.named_modules()]:
            inner = name.endswith(".base_layer")
            if isinstance(module, AdaptedLinear | AdaptedExperts) and not inner:
                _put(model, name, module.merge())
        return model

    def adapter_tensors(self) -> dict[str, Tensor]:
        """The adapters' matrices under their names in an adapter's file."""
        return {_stored(name): value.detach() for name, value in self.named_parameters() if ".lora_" in name}

    def load_adapter_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Give the adapters these values; `tensors` are those of `adapter_tensors`."""
        with torch.no_grad():
            for name, value in self.named_parameters():
                if ".lora_" in name:
                    value.copy_(tensors[_stored(name)])

    def settings(self) -> dict[str, Any]:
        """The content of adapter_config.json as peft writes it, but for the name of the base model."""
        no_parameters = None if self.get_base_model().config.model_type == "qwen3" else list[str]()
        return {
            **_UNUSED,
            "r": self.rank,
            "lora_alpha": self.alpha,
            "peft_version": importlib.metadata.version("peft"),
            "target_modules": set(self.modules_adapted),
            "target_parameters": list(self.parameters_adapted) or no_parameters,
        }


def is_plain(config: Mapping[str, Any]) -> bool:
    """Tell whether an adapter's settings ask for pairs of matrices on named modules and for nothing else of peft."""
    known = {"r", "lora_alpha", "peft_version", "target_modules", "target_parameters", "base_model_name_or_path"}
    for name, value in config.items():
        if name in known or name == "base_model_class" or name == "parent_library":
            continue
        if name in ("alpha_pattern", "rank_pattern") and value:
            return False
        if name not in _INERT and name not in _UNUSED:
            return False
        if name not in _INERT and value != _UNUSED[name]:
            return False
    listed = [config.get("target_modules") or [], config.get("target_parameters") or []]
    return config["r"] > 0 and all(isinstance(names, list) for names in listed)


def _named(name: str, wanted: Sequence[str]) -> bool:
    """Tell whether a module's name is wanted, whole or by its end."""
    return any(name == one or name.endswith(f".{one}") for one in wanted)


def _stored(name: str) -> str:
    return name.replace(f".lora_A.{ADAPTER}.", ".lora_A.").replace(f".lora_B.{ADAPTER}.", ".lora_B.")


def _experts(module: "Experts | AdaptedExperts") -> Experts:
    while isinstance(module, AdaptedExperts):
        module = module.base_layer
    return module


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    """Let `module` stand at the place of this name."""
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)


def _first(module: nn.Module, base: nn.Module) -> None:
    """Register `base` before the matrices: the order of parameters is peft's."""
    pairs = [*module._modules.items()]
    module._modules.clear()
    module.add_module("base_layer", base)
    for name, pair in pairs:
        module.add_module(name, pair)
