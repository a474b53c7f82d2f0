"""A model that is being trained: its weights, its optimizer, and what was counted since the last step."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from emulator.backend import BackendError, ModelSpec
from ftsim.compute.checkpoints.names import tensors_of
from ftsim.compute.checkpoints.source import Source, open_model
from ftsim.compute.execution import Execution
from ftsim.compute.images.sight import Sight
from ftsim.compute.models.routing import Routers
from ftsim.compute.quiet import quiet
from ftsim.compute.standins.adapters import TRAINED
from ftsim.compute.standins.config import read_config
from ftsim.compute.trainer import layers, lora, optimizer
from ftsim.compute.trainer.masters import Masters
from ftsim.compute.trainer.prototypes import Prototypes, identity

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

_PROTOTYPES = Prototypes()


@dataclass
class Snapshot:
    """Holds what the last full-parameter sampler save wrote, on the CPU: the base of the next delta (WIRE 5.6)."""

    identity: str
    tensors: Mapping[str, Tensor]


@dataclass
class LiveModel:
    """One model on a trainer."""

    spec: ModelSpec
    source: Source
    """What goes along from the base's folder into those that this model writes."""
    model: "PreTrainedModel | PeftModel"
    projection: nn.Linear | None
    masters: Masters
    how: Execution
    optimizer: optimizer.AdamW
    routers: Routers
    step: int = 0
    loss_tokens: int = 0
    """Positions whose log-probability had a non-zero gradient since the last step."""
    loss_sequences: int = 0
    sight: Sight | None = None
    """None for a model that reads text alone."""
    sharded: bool = False
    """True where each rank of a group holds a part of the weights."""
    gathered: Mapping[str, Tensor] | None = None
    """All of a sharded model's weights, on the rank that writes them, for as long as that takes."""
    snapshot: Snapshot | None = None
    staging: Mapping[str, Tensor] = field(default_factory=dict)
    """The memory of the last training state that was staged and is written."""
    acknowledged: Snapshot | None = None
    """A later one, of which the tensors are the model's own: they are copied before they change."""

    @property
    def trained(self) -> Mapping[str, Tensor]:
        """Weights that steps move, in float32, by the name they are saved under."""
        return self.masters.trained

    @property
    def bare(self) -> "PreTrainedModel":
        """The transformers model, adapters included when there are any."""
        model: Any = self.model
        return cast("PreTrainedModel", model if self.spec.lora is None else model.get_base_model())

    def take_alpha(self, settings: "Mapping[str, Any] | None") -> None:
        """Multiply the adapters as `settings` of a checkpoint say: the weights that it holds were trained so."""
        alpha = (settings or {}).get("alpha")
        if self.spec.lora is None or alpha is None or alpha == self.spec.lora.alpha:
            return
        lora.set_alpha(cast("PeftModel", self.model), self.spec.lora.rank, float(alpha))
        self.spec = replace(self.spec, lora=replace(self.spec.lora, alpha=float(alpha)))

    def forget_gradients(self) -> None:
        self.optimizer.zero_grad()
        self.loss_tokens = self.loss_sequences = 0

    def forget_optimizer(self) -> None:
        """Fresh moments, step 0, no gradients."""
        self.forget_gradients()
        self.optimizer = optimizer.create(list(self.trained.values()))
        self.step = 0


def build(spec: ModelSpec, folder: Path, device: torch.device, how: Execution) -> LiveModel:
    """Load the base, add adapters and projection, freeze what is not trained."""
    model, source = _prepared(spec, folder, device, how.dtype)
    base: PreTrainedModel = model if spec.lora is None else cast("Any", model).get_base_model()
    projection = _projection(spec, base.config.get_text_config().hidden_size)
    if device.type != "cpu":
        for module in filter(None, (model, projection)):
            module.to(device)
    routers = Routers(base)
    if how.compiled and routers.shape is not None:
        raise BackendError(
            f"{base.config.model_type} has experts whose choice can be replayed, which compiled layers would not look "
            "at: compute it without 'compile'"
        )
    layers.wrap(base, how)
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    if projection is not None:
        trained["projection.weight"] = projection.weight
    masters = Masters(trained)
    parameters = list(masters.trained.values()) or [torch.zeros(1)]
    made = optimizer.create(parameters)
    return LiveModel(spec, source, model, projection, masters, how, made, routers, sight=Sight.of(source.files))


def _prepared(
    spec: ModelSpec, folder: Path, device: torch.device, dtype: torch.dtype
) -> "tuple[PreTrainedModel | PeftModel, Source]":
    """The base with its adapters, weights that are not trained frozen, on the CPU; and what goes along with it."""

    def make() -> "tuple[PreTrainedModel | PeftModel, Source]":
        base = _opened(folder, dtype, adapted=spec.lora is not None)
        source = Source.read(folder, base, tensors_of(base))
        base.requires_grad_(spec.lora is None and not spec.base_only)
        return (base if spec.lora is None else lora.attach(base, spec.lora)).eval(), source

    if device.type != "cpu":
        return make()
    return _PROTOTYPES.get((identity(folder), dtype, spec.lora, spec.base_only), make)


def _opened(folder: Path, dtype: torch.dtype, *, adapted: bool) -> "PreTrainedModel":
    """The base, of our own class where that can be trained so."""
    stand_in = read_config(folder)
    of_library = adapted and (stand_in is None or stand_in.model_type not in TRAINED)
    return open_model(folder, dtype, through_library=of_library)


def _projection(spec: ModelSpec, hidden: int) -> nn.Linear | None:
    """The train-only head of `projection_head_dim` (WIRE 2.5), in float32 and seeded."""
    if not spec.projection_head_dim:
        return None
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed((spec.lora.seed if spec.lora else None) or 0)
        return nn.Linear(hidden, spec.projection_head_dim, bias=False)
