"""The files that a save for sampling writes: the one place that knows `checkpoint_type` (WIRE 5.3)."""

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from emulator.backend import BackendError, CheckpointType, SavedState
from ftsim.compute.checkpoints import delta, hf, peft
from ftsim.compute.trainer import shards
from ftsim.compute.trainer.live import LiveModel, Snapshot


def save(
    live: LiveModel, folder: Path, identity: str, checkpoint_type: CheckpointType, precision: str | None
) -> SavedState:
    """Write weights into the empty `folder`."""
    if checkpoint_type not in ("base", "delta", "merged_base"):
        raise BackendError(f"unknown checkpoint_type {checkpoint_type!r}; expected base, delta or merged_base")
    if live.projection is not None:
        raise BackendError("a model with a projection head cannot be saved for sampling")
    if precision is not None and checkpoint_type != "merged_base":
        raise BackendError("export_precision goes with checkpoint_type 'merged_base' only")
    if checkpoint_type == "merged_base":
        if live.spec.lora is None:
            raise BackendError("merged_base needs a LoRA model; save a full-parameter model as 'base'")
        hf.save_merged(live, folder, precision)
    elif live.spec.lora is not None:
        peft.save(live, folder)  # FAILURES B12: the whole adapter, whatever type was asked for
    elif checkpoint_type == "delta":
        return _delta(live, folder, identity)
    else:
        tensors = hf.full_tensors(live)
        hf.save(folder, live.source, tensors)
        return SavedState(live.step, acknowledged=_remembering(live, identity, tensors))
    return SavedState(live.step)


def _delta(live: LiveModel, folder: Path, identity: str) -> SavedState:
    settle(live)
    previous = live.snapshot
    if previous is None:  # nothing to take the difference from (FAILURES B11)
        raise BackendError("a delta needs an earlier snapshot of this model; save checkpoint_type 'base' first")
    tensors = hf.full_tensors(live)
    kind = hf.usual_type(live.source, tensors)
    delta.write_delta(previous.tensors, tensors, folder, live.source.files, dtype=kind)
    return SavedState(live.step, previous.identity, _remembering(live, identity, tensors))


def _remembering(live: LiveModel, identity: str, tensors: dict[str, Tensor]) -> Callable[[], None]:
    """Take what was written for the base of the next delta, once that is called."""

    def remember() -> None:
        live.acknowledged = Snapshot(identity, tensors)

    return remember


def settle(live: LiveModel) -> None:
    """Copy what was saved last, before the weights change: a save that no step follows copies nothing."""
    if (saved := live.acknowledged) is not None:
        live.snapshot, live.acknowledged = Snapshot(saved.identity, _kept(live, saved.tensors)), None


def _kept(live: LiveModel, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that the next step does not change, in the memory of the snapshot before where they fit.

    Memory that is new to the process can cost more than all of the writing, where the machine is a virtual one.
    """
    changing = {shards.local(value).untyped_storage().data_ptr() for value in live.masters.computed.values()}
    earlier = live.snapshot.tensors if live.snapshot else {}
    return {
        name: _copied(value, earlier.get(name), changing) if value.untyped_storage().data_ptr() in changing else value
        for name, value in tensors.items()
    }


def _copied(value: Tensor, earlier: Tensor | None, changing: set[int]) -> Tensor:
    """A copy, in the place of `earlier` if that is of the same shape and type and no step changes it."""
    if earlier is None or earlier.untyped_storage().data_ptr() in changing:
        return value.clone()
    if (earlier.shape, earlier.dtype, earlier.stride()) != (value.shape, value.dtype, value.stride()):
        return value.clone()
    return earlier.copy_(value)
