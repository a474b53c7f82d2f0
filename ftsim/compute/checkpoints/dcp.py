"""Training state as a `torch.distributed.checkpoint` folder: trained weights, optimizer moments, step, random state.

Beside it lies `training_state.json`, written last: plain JSON with `format_version`, `base_model`, `lora` (settings or
null), `projection_head_dim`, `step`, `computed` (precision,
checkpointing, compiled) and `files` (name: size in bytes). Without it, or with other sizes, the folder is
torn (FAILURES C22). Gradients that wait for a step are not saved (FAILURES B6).
Nothing read from a folder is unpickled freely: a checkpoint may come from another account's job.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from emulator.backend import BackendError
from ftsim.compute import libraries
from ftsim.compute.checkpoints.metadata import Metadata, TensorStorageMetadata, unpickled, write_state
from ftsim.compute.checkpoints.pieces import read_into
from ftsim.compute.trainer import shards
from ftsim.compute.trainer.live import LiveModel

STATE_FILE = "training_state.json"
FORMAT_VERSION = 1
_MOMENTS = ("exp_avg", "exp_avg_sq")
BESIDE = 64 << 20
"""Bytes of trained weights up to which a checkpoint is read beside them, so that a file that goes meanwhile is no
harm; of more there may be room for one copy alone."""


def save(model: LiveModel, folder: Path) -> None:
    """Write the state of `model` into the empty `folder`; raises OSError when the disk does not take it."""
    write_state(state_of(model), folder)
    describe(model, folder)


def staged(model: LiveModel) -> Callable[[Path], None]:
    """Copy the state of `model`; returns what writes it into an empty folder, byte by byte as `save` does now.

    The copy is on the CPU, beside the state. Once it is written its memory waits for the next one: to copy into memory
    that is new to the process takes several times as long.
    """
    own = set(map(shards.memory, _changing(model)))
    earlier, model.staging = model.staging, {}
    state = {name: copied(value, own, earlier.get(name)) for name, value in state_of(model).items()}
    description = _description(model)

    def write(folder: Path) -> None:
        try:
            write_state(state, folder)
            _describe_as(description, folder)
        finally:
            model.staging = state

    return write


def copied(value: Tensor, own: Collection[int], earlier: Tensor | None = None) -> Tensor:
    """The numbers of a tensor on the CPU, in memory that is none of a model's `own`: that of `earlier`, if they fit."""
    value = value.detach()
    if earlier is not None and _form(earlier) == _form(value):
        return earlier.copy_(value)
    there = value.cpu()
    return there.clone() if shards.memory(there) in own else there


def _form(value: Tensor) -> tuple[object, ...]:
    return value.shape, value.dtype, value.stride()


def _changing(model: LiveModel) -> Iterator[Tensor]:
    """Yield what steps change in its place."""
    for value in model.trained.values():
        yield value
        yield from (model.optimizer.state[value][moment] for moment in _MOMENTS if value in model.optimizer.state)


def describe(model: LiveModel, folder: Path) -> None:
    """Write, beside the files of a state, what makes them a whole one."""
    _describe_as(_description(model), folder)


def _describe_as(description: Mapping[str, Any], folder: Path) -> None:
    files = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    (folder / STATE_FILE).write_text(json.dumps({**description, "files": files}, indent=1) + "\n")


def load(
    model: LiveModel,
    folder: Path,
    *,
    optimizer: bool,
    keep_optimizer: bool = False,
    read: "Callable[[dict[str, Tensor], Path, Metadata], None] | None" = None,
) -> None:
    """Read state into `model`; with `optimizer=False` moments and step start anew, or with `keep_optimizer` stay (C8).

    `read` fills the tensors of a sharded model, each rank its own parts. Everything is checked and read before the
    first parameter changes; raises `BackendError` otherwise.
    """
    description = _describe(folder)
    _check_identity(model, description)
    if optimizer and (other := model.how.why_other(description.get("computed") or model.how.noted())):
        raise BackendError(other)
    metadata = _read_metadata(folder, description["files"])
    if read is None:
        wanted = _read(model, folder, metadata, optimizer=optimizer)
    else:
        wanted = _wanted(model, metadata, lambda _, like: torch.zeros_like(like), optimizer=optimizer)
        read(wanted, folder, metadata)
    with torch.no_grad():
        for name, value in model.trained.items():
            shards.local(value).copy_(shards.local(wanted[f"model.{name}"]))
    model.masters.publish()
    model.take_alpha(description["lora"])
    model.forget_gradients()
    if not keep_optimizer:
        model.forget_optimizer()
    if optimizer:
        _restore_optimizer(model, wanted)
        model.step = description["step"]
        torch.set_rng_state(wanted["random"])


def _read(model: LiveModel, folder: Path, metadata: Metadata, *, optimizer: bool) -> dict[str, Tensor]:
    """The tensors of a checkpoint: small states beside the model's, large ones in their place once all is checked."""

    def read(target: Callable[[str, Tensor], Tensor]) -> dict[str, Tensor]:
        wanted = _wanted(model, metadata, target, optimizer=optimizer)
        read_into(wanted, folder, metadata)
        return wanted

    if sum(value.numel() * value.element_size() for value in model.trained.values()) <= BESIDE:
        return read(lambda name, like: torch.zeros_like(like))
    libraries.import_meta()
    read(lambda name, like: torch.zeros_like(like, device="meta"))
    there = {f"model.{name}": value.detach() for name, value in model.trained.items()}
    for name, value in model.trained.items():
        there |= {f"optimizer.{moment}.{name}": one for moment, one in model.optimizer.state.get(value, {}).items()}
    return read(lambda name, like: there[name] if name in there else torch.zeros_like(like))


def state_of(model: LiveModel) -> dict[str, Tensor]:
    """Flat, tensors only; the steps of AdamW (one per parameter) travel as one tensor."""
    state = {f"model.{name}": value.detach() for name, value in model.trained.items()}
    state["random"] = torch.get_rng_state()
    moments = model.optimizer.state
    if not moments:
        return state
    for name, value in model.trained.items():
        for moment in _MOMENTS:
            state[f"optimizer.{moment}.{name}"] = (
                moments[value][moment] if value in moments else torch.zeros_like(value)
            )
    steps = [moments[value]["step"] if value in moments else torch.zeros(()) for value in model.trained.values()]
    state["optimizer.step"] = torch.stack([step.cpu() for step in steps])
    return state


def _restore_optimizer(model: LiveModel, state: Mapping[str, Tensor]) -> None:
    if "optimizer.step" not in state:
        return
    for (name, value), step in zip(model.trained.items(), state["optimizer.step"], strict=True):
        if step > 0:
            moments = {moment: state[f"optimizer.{moment}.{name}"] for moment in _MOMENTS}
            model.optimizer.state[value] = {"step": step.clone(), **moments}


def _description(model: LiveModel) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "base_model": model.spec.base_model.name,
        "lora": asdict(model.spec.lora) if model.spec.lora else None,
        "projection_head_dim": model.spec.projection_head_dim,
        "computed": model.how.noted(),
        "step": model.step,
    }


def _describe(folder: Path) -> dict[str, Any]:
    """The description of a whole training checkpoint; raises `BackendError` for anything else."""
    name = folder.name
    if not (folder / STATE_FILE).exists() and not (folder / ".metadata").exists():  # perhaps a sampler's (FAILURES C1)
        if (folder / "adapter_config.json").exists():
            hint = "use load_adapter, or load a save_state checkpoint"
            raise BackendError(f"{name} is an adapter for sampling, not a training state; {hint}")
        if (folder / "config.json").exists():
            raise BackendError(f"{name} holds weights for sampling, not a training state; load a save_state checkpoint")
        raise BackendError(f"{name} is not a training checkpoint; load a save_state checkpoint")
    try:
        description = json.loads((folder / STATE_FILE).read_bytes())
        sizes = {file: (folder / Path(file).name).stat().st_size for file in description["files"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackendError(f"{name} is a torn checkpoint: {error}; load an older one") from None
    if description.get("format_version") != FORMAT_VERSION:
        found = description.get("format_version")
        raise BackendError(f"{name} has format {found!r}; this trainer reads {FORMAT_VERSION}")
    short = [file for file, size in description["files"].items() if sizes[file] != size]
    if short or ".metadata" not in sizes:
        raise BackendError(f"{name} is a torn checkpoint: {short or '.metadata'} incomplete; load an older one")
    return cast("dict[str, Any]", description)


def _check_identity(model: LiveModel, description: Mapping[str, Any]) -> None:
    theirs, mine = description.get("lora"), asdict(model.spec.lora) if model.spec.lora else None
    if description.get("base_model") != model.spec.base_model.name:  # shapes may fit all the same (FAILURES C11)
        raise BackendError(
            f"the checkpoint was trained on {description.get('base_model')}, this model on {model.spec.base_model.name}"
        )
    if (theirs is None) != (mine is None):  # the tensors have other names in each mode (FAILURES C10)
        kinds = ("full-parameter", "LoRA") if theirs is None else ("LoRA", "full-parameter")
        raise BackendError(f"a {kinds[0]} checkpoint cannot be loaded into a {kinds[1]} model")
    if theirs and mine and theirs.get("rank") != mine["rank"]:
        raise BackendError(f"the checkpoint has LoRA rank {theirs.get('rank')}, this model has {mine['rank']}")


def _wanted(
    model: LiveModel, metadata: Metadata, target: Callable[[str, Tensor], Tensor], *, optimizer: bool
) -> dict[str, Tensor]:
    """The tensors to read into, which `target` gives for each name and a tensor of its shape, type and device.

    Raises when the checkpoint holds others.
    """
    stored = metadata.state_dict_metadata
    likes = {f"model.{name}": value.detach() for name, value in model.trained.items()}
    if optimizer:
        likes["random"] = torch.get_rng_state()
        if "optimizer.step" in stored:
            for name, value in model.trained.items():
                likes |= {f"optimizer.{moment}.{name}": value.detach() for moment in _MOMENTS}
            likes["optimizer.step"] = torch.zeros(len(model.trained))
    for name in sorted({name for name in stored if name.startswith("model.")} | set(likes)):
        found = stored.get(name)
        if name not in likes or not isinstance(found, TensorStorageMetadata) or found.size != likes[name].shape:
            raise BackendError(f"the checkpoint does not fit this model: {name} is missing or has another shape")
    return {name: target(name, like) for name, like in likes.items()}


def _read_metadata(folder: Path, files: Mapping[str, int]) -> Metadata:
    """Read `.metadata` as data: only the classes it is made of, only tensors, only the files that were named."""
    try:
        metadata = unpickled((folder / ".metadata").read_bytes())
    except Exception as error:  # a pickle can fail in any way
        raise BackendError(f"{folder.name} has unreadable metadata: {error}") from None
    shards = {info.relative_path for info in metadata.storage_data.values()}
    for name, entry in metadata.state_dict_metadata.items():
        if not isinstance(entry, TensorStorageMetadata):
            raise BackendError(f"{folder.name} holds {name}, which no training checkpoint of this trainer has")
    if not shards <= set(files) or any(Path(shard).name != shard for shard in shards):
        raise BackendError(f"{folder.name} has metadata that no training checkpoint has")
    return cast(Metadata, metadata)
