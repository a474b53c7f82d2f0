"""Which files a save for sampling writes: the one place that knows `checkpoint_type` (WIRE 5.3)."""

from pathlib import Path

from torch import Tensor

from emulator.backend import BackendError, CheckpointType
from ftsim.compute.checkpoints import delta, hf, peft
from ftsim.compute.trainer.live import LiveModel, Snapshot


def save(
    held: LiveModel, folder: Path, identity: str, checkpoint_type: CheckpointType, precision: str | None
) -> str | None:
    """Write weights into the empty `folder`; returns the snapshot a delta must be applied to, else None."""
    if checkpoint_type not in ("base", "delta", "merged_base"):
        raise BackendError(f"unknown checkpoint_type {checkpoint_type!r}; expected base, delta or merged_base")
    if held.projection is not None:
        raise BackendError("a model with a projection head cannot be saved for sampling")
    if precision is not None and checkpoint_type != "merged_base":
        raise BackendError("export_precision goes with checkpoint_type 'merged_base' only")
    if checkpoint_type == "merged_base":
        if held.spec.lora is None:
            raise BackendError("merged_base needs a LoRA model; save a full-parameter model as 'base'")
        hf.save_merged(held, folder, precision)
    elif held.spec.lora is not None:
        peft.save(held, folder)  # FAILURES B12: the whole adapter, whatever type was asked for
    elif checkpoint_type == "delta":
        return _delta(held, folder, identity)
    else:
        tensors = {name: value.cpu() for name, value in hf.tensors_of(held.model).items()}
        hf.save(folder, held.companions, tensors)
        held.snapshot = Snapshot(identity, _own(held, tensors))
    return None


def _delta(held: LiveModel, folder: Path, identity: str) -> str:
    previous = held.snapshot
    if previous is None:  # FAILURES B11
        raise BackendError("a delta needs an earlier snapshot of this model; save checkpoint_type 'base' first")
    tensors = _own(held, {name: value.cpu() for name, value in hf.tensors_of(held.model).items()})
    delta.write_delta(previous.tensors, tensors, folder, held.companions)
    held.snapshot = Snapshot(identity, tensors)
    return previous.identity


def _own(held: LiveModel, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that the next step does not change."""
    live = {value.untyped_storage().data_ptr() for value in held.trained.values()}
    return {n: t.clone() if t.untyped_storage().data_ptr() in live else t for n, t in tensors.items()}
