"""The files that a save for sampling writes: the one place that knows `checkpoint_type` (WIRE 5.3)."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from torch import Tensor

from emulator.backend import BackendError, CheckpointType, SavedState
from ftsim.compute.checkpoints import dcp, delta, hf, peft
from ftsim.compute.trainer import shards
from ftsim.compute.trainer.live import LiveModel, Snapshot


def save(
    live: LiveModel, folder: Path, identity: str, checkpoint_type: CheckpointType, precision: str | None
) -> SavedState:
    """Write weights into the empty `folder`, or stage them for that."""
    if checkpoint_type not in ("base", "delta", "merged_base"):
        raise BackendError(f"unknown checkpoint_type {checkpoint_type!r}; expected base, delta or merged_base")
    if live.projection is not None:
        raise BackendError("a model with a projection head cannot be saved for sampling")
    if precision is not None and checkpoint_type != "merged_base":
        raise BackendError("export_precision goes with checkpoint_type 'merged_base' only")
    if checkpoint_type == "merged_base":
        if live.spec.lora is None:
            raise BackendError("merged_base needs a LoRA model; save a full-parameter model as 'base'")
        merged = hf.merged_tensors(live, precision)
        return _written(live, lambda: hf.save_merged(folder, live.source, merged, precision))
    if live.spec.lora is not None:  # FAILURES B12: the whole adapter, whatever type was asked for
        adapter = _staged(live, peft.tensors_of(live))
        return _written(live, lambda: peft.save(live, folder, adapter))
    if checkpoint_type == "delta":
        settle(live)
        if live.snapshot is None:  # nothing to take the difference from (FAILURES B11)
            raise BackendError("a delta needs an earlier snapshot of this model; save checkpoint_type 'base' first")
    previous = live.snapshot if checkpoint_type == "delta" else None
    tensors = _staged(live, hf.full_tensors(live))

    def write() -> None:
        if previous is None:
            hf.save(folder, live.source, tensors)
        else:
            kind = hf.usual_type(live.source, tensors)
            delta.write_delta(previous.tensors, tensors, folder, live.source.files, dtype=kind)

    remember = partial(_remember, live, Snapshot(identity, tensors))
    return _written(live, write, SavedState(live.step, previous.identity if previous else None, remember))


def _written(live: LiveModel, write: Callable[[], None], saved: SavedState | None = None) -> SavedState:
    """A save whose files are written now, or left to be written where the model's saves are (`async-save`)."""
    saved = saved or SavedState(live.step)
    if live.how.async_save:
        return replace(saved, write=write)
    write()
    return saved


def _staged(live: LiveModel, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return what is to be written: where that is done later, copies of what the next step changes."""
    if not live.how.async_save:
        return tensors
    changing = _changing(live)
    return {name: dcp.copied(value, changing) for name, value in tensors.items()}


def _remember(live: LiveModel, saved: Snapshot) -> None:
    """Take what was written for the base of the next delta: at once what was copied, else once the weights change."""
    if live.how.async_save:
        live.snapshot = saved
    else:
        live.acknowledged = saved


def settle(live: LiveModel) -> None:
    """Copy what was saved last, before the weights change: a save that no step follows copies nothing."""
    if (saved := live.acknowledged) is not None:
        live.snapshot, live.acknowledged = Snapshot(saved.identity, _kept(live, saved.tensors)), None


def _kept(live: LiveModel, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that the next step does not change, in the memory of the snapshot before where they fit.

    Memory that is new to the process can cost more than all of the writing, where the machine is a virtual one.
    """
    changing = _changing(live)
    before = live.snapshot.tensors if live.snapshot else {}
    earlier = {name: value for name, value in before.items() if shards.memory(value) not in changing}
    return {
        name: dcp.copied(value, changing, earlier.get(name)) if shards.memory(value) in changing else value
        for name, value in tensors.items()
    }


def _changing(live: LiveModel) -> set[int]:
    """The memory that a step changes."""
    return set(map(shards.memory, live.masters.computed.values()))
