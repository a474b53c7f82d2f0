"""A trainer that runs on every rank of a group, each with a share of the datums.

Full-parameter models are sharded by FSDP2 (`fully_shard`): of weights, gradients and moments each rank holds a part, a
layer is whole while it is computed. Models with adapters are data parallel: each rank holds all of them, and gradients
are summed. A request's loss is a sum over its datums, so sums over the ranks' shares are what one process computes.

All ranks are asked the same and answer alike; what one of them finds wrong, all raise.
"""

import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from emulator.backend import BackendError, CheckpointType, ModelSpec, SavedState
from ftsim.compute.checkpoints import dcp, sharded
from ftsim.compute.trainer import embeddings, layers, optimizer, shards
from ftsim.compute.trainer.batching import Datum, MicroBatch, micro_batches
from ftsim.compute.trainer.compute import Done
from ftsim.compute.trainer.live import LiveModel
from ftsim.compute.trainer.masters import Masters
from ftsim.compute.trainer.trainer import TorchTrainer
from ftsim.compute.workers.ranks import Ranks, place, share

_ALONE = "serve it without --trainer-nproc"
_ZERO = np.zeros(1, dtype=np.float32)
_NOTHING = Datum(
    np.zeros(1, dtype=np.int64),
    {"target_tokens": np.zeros(1, dtype=np.int64), "weights": _ZERO, "logprobs": _ZERO, "advantages": _ZERO},
)
"""A token without weight, for a rank that has no more datums while others have."""


class GroupTrainer(TorchTrainer):
    """`emulator.backend.Trainer` on the ranks of a group; the first one's answers are the group's."""

    def __init__(self, *arguments: Any, device: str = "cpu", **settings: Any) -> None:
        own = place(device, int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count())
        super().__init__(*arguments, device=own, **settings)
        if self._device.type == "cuda":
            torch.cuda.set_device(self._device)
        if not hasattr(FSDPModule, "set_reduce_scatter_unused_params"):
            raise BackendError(f"a trainer group needs torch 2.13 or newer: {_ALONE}", "server")
        self._ranks = Ranks(self._device)
        self._touched: dict[str, set[str]] = {}

    def create_model(self, spec: ModelSpec) -> Mapping[str, Any]:
        """Build the model on every rank, and spread it over them where all of it is trained."""
        if spec.projection_head_dim:
            raise BackendError(f"a trainer group trains no projection head: {_ALONE}")
        answer = super().create_model(spec)
        model = self._models[spec.model_id]
        self._ranks.check_alike("weights", list(model.trained.values()))
        if spec.lora is None and not spec.base_only:
            self._touched[spec.model_id] = _spread(model)
        return answer

    def save_state(self, model_id: str, folder: Path) -> SavedState:
        model = self._trainable(model_id)
        if model.sharded:
            sharded.save(model, folder, self._ranks.agree, first=self._first)
        elif self._first:
            dcp.save(model, folder)
        return SavedState(model.step)

    def load_state(self, model_id: str, folder: Path, *, optimizer: bool, keep_optimizer: bool = False) -> None:
        sharded.load(
            self._trainable(model_id),
            folder,
            self._ranks.agree,
            first=self._first,
            optimizer=optimizer,
            keep_optimizer=keep_optimizer,
        )

    def save_sampler(
        self,
        model_id: str,
        folder: Path,
        *,
        identity: str,
        checkpoint_type: CheckpointType = "base",
        export_precision: str | None = None,
    ) -> SavedState:
        """Write on the first rank what one process writes; the weights of a sharded model are gathered there."""
        model = self._trainable(model_id)
        if model.sharded:
            model.gathered = _gathered(model, keep=self._first)
        try:
            if not self._first:
                return SavedState(model.step)
            return super().save_sampler(
                model_id,
                folder,
                identity=identity,
                checkpoint_type=checkpoint_type,
                export_precision=export_precision,
            )
        finally:
            model.gathered = None

    @property
    def _first(self) -> bool:
        return self._ranks.rank == 0

    def _embed(self, model: LiveModel, batch: Mapping[str, Any], *, backward: bool) -> Mapping[str, Any]:
        output = embeddings.checked(batch["loss_fn_config"])["output"]
        raise BackendError(f"output {output!r} looks at all datums at once, which a trainer group shares out: {_ALONE}")

    def _run(self, model: LiveModel, datums: Sequence[Datum], work: Callable[[MicroBatch, Done], None]) -> Done:
        """Do work on the rank's share; the totals are those of all ranks, the records are the first one's to have.

        The ranks of a sharded model go through it together, so each runs it equally often, and to the end.
        """
        if any(datum.pictures for datum in datums):  # a rank without any would not go through the tower's layers
            raise BackendError(f"a trainer group trains on text alone: {_ALONE}, and images are taken")
        shares = share(datums, self._ranks.size)
        own = [datums[index] for index in shares[self._ranks.rank]]
        micros = self._split(model, own)
        done, error = Done.of(own), None
        self._touched.get(model.spec.model_id, set()).clear()
        for number in range(self._ranks.most(len(micros)) if model.sharded else len(micros)):
            try:
                if number < len(micros):
                    work(micros[number], done)
                else:
                    work(next(micro_batches([_NOTHING], 1, self._device)), Done.of([_NOTHING]))
            except BackendError as raised:
                error = error or raised
            except Exception:
                _abandon()
        self._ranks.agree(error)
        return self._merged(datums, shares, done)

    def _merged(self, datums: Sequence[Datum], shares: Sequence[Sequence[int]], done: Done) -> Done:
        merged = Done.of(datums)
        for total, tokens, sequences in self._ranks.all((done.total, done.tokens, done.sequences)):
            merged.total += total
            merged.tokens += tokens
            merged.sequences += sequences
        for indices, outputs in zip(shares, self._ranks.at_first(done.outputs), strict=False):
            for index, output in zip(indices, outputs, strict=True):
                merged.outputs[index] = output
        return merged

    def _combine(self, model: LiveModel) -> None:
        """Sum the gradients of all ranks, as those of a sharded model are; what no rank has used gets none."""
        if not model.sharded:
            self._ranks.add_gradients(list(model.trained.values()))
            return
        touched = set[str]().union(*self._ranks.all(self._touched[model.spec.model_id]))
        for name, value in model.trained.items():
            if name not in touched:
                value.grad = None


def _abandon() -> NoReturn:
    """End this rank where it cannot go on while others wait for its part: torchrun ends them all."""
    traceback.print_exc()
    os._exit(70)


def _spread(model: LiveModel) -> set[str]:
    """Shard a model over all ranks: its layers one by one, and the rest. Returns where names of used weights arrive."""
    device = next(iter(model.trained.values())).device
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    root = cast(nn.Module, model.model)
    policy = _policy(model)
    for module in (*layers.layers_of(root), root):
        fully_shard(module, mesh=mesh, reshard_after_forward=True, mp_policy=policy)
    modules = [module for module in root.modules() if isinstance(module, FSDPModule)]
    for module in modules:
        module.set_gradient_divide_factor(1.0)  # losses are sums
        module.set_force_sum_reduction_for_comms(True)  # gloo knows no other, and a sum is meant
        module.set_reduce_scatter_unused_params(True)  # an expert that no token of this rank has chosen
    model.sharded = True
    model.masters = Masters({name: value for name, value in root.named_parameters() if value.requires_grad})
    model.optimizer = optimizer.create(list(model.trained.values()))
    touched: set[str] = set()
    for module in modules:
        module.unshard()  # for hooks on the weights that are computed with
    for name, value in root.named_parameters():
        if value.requires_grad:
            value.register_hook(partial(_touch, touched, name))  # type: ignore[no-untyped-call]
    for module in modules:
        module.reshard()
    return touched


def _policy(model: LiveModel) -> MixedPrecisionPolicy:
    """The precision of what is gathered: each rank holds its part of the float32 masters, and gradients meet in it."""
    dtype = model.how.dtype
    if dtype == torch.float32:
        return MixedPrecisionPolicy(cast_forward_inputs=False)
    for name, value in model.masters.computed.items():
        if value.dtype != dtype:
            raise BackendError(
                f"this architecture keeps {name} in {value.dtype} beside {dtype}, and a trainer group shards a layer "
                f"in one precision: compute it in float32, or {_ALONE}"
            )
        value.data = model.masters.trained[name].detach()
    return MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)


def _touch(touched: set[str], name: str, grad: Tensor) -> None:
    touched.add(name)


def _gathered(model: LiveModel, *, keep: bool) -> dict[str, Tensor] | None:
    """All weights, one after the other, where they are to be kept; every rank takes part."""
    state: dict[str, Tensor] = {}
    for name, value in cast(nn.Module, model.model).state_dict().items():
        whole = value.full_tensor().to(model.how.dtype) if shards.is_sharded(value) else value
        if keep:
            state[name] = whole.cpu()
    return state if keep else None
