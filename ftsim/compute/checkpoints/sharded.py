"""Training states of models on several ranks; of those that are spread over them, by torch's own package.

The tensors are those that one process writes, under the same names: each rank writes its parts of them, and whoever
reads them, one process or any number of ranks, reads the parts that it needs.
"""

import errno
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import StorageMeta

from emulator.backend import BackendError
from ftsim.compute import libraries
from ftsim.compute.checkpoints import dcp
from ftsim.compute.checkpoints.metadata import FILE, Metadata
from ftsim.compute.checkpoints.pieces import read_into
from ftsim.compute.quiet import quiet
from ftsim.compute.trainer.live import LiveModel

Agree = Callable[[Exception | None], None]
"""Raises the first error that a rank has, on every rank."""


def save(model: LiveModel, folder: Path, agree: Agree, *, first: bool) -> None:
    """Write the state of `model`, all ranks together; raises what a rank could not write. `first` on one rank."""
    error: Exception | None = None
    try:
        if not folder.is_dir():  # torch would make it
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
        with quiet():
            state_dict_saver.save(dcp.state_of(model), checkpoint_id=folder)
    except Exception as raised:
        error = _cause(raised)
    agree(error)
    if first:
        try:
            _forget_where_it_was_written(folder / FILE)
            dcp.describe(model, folder)
        except OSError as raised:
            error = raised
    agree(error)


def load(
    model: LiveModel, folder: Path, agree: Agree, *, first: bool, optimizer: bool, keep_optimizer: bool = False
) -> None:
    """Read a state into `model`, all ranks together, whoever wrote it; raises `BackendError` as one process does.

    No rank changes before all of them have read.
    """

    def read(wanted: dict[str, Tensor], where: Path, metadata: Metadata) -> None:
        error: Exception | None = None
        try:
            if not model.sharded:
                read_into(wanted, where, metadata)
            elif first:  # torch reads without a look at the sums beside the numbers
                libraries.import_meta()
                read_into({name: _without_memory(value) for name, value in wanted.items()}, where, metadata)
        except (BackendError, OSError) as raised:
            error = raised
        agree(error)
        if model.sharded:
            with quiet():
                state_dict_loader.load(dict(wanted), storage_reader=FileSystemReader(where))

    dcp.load(model, folder, optimizer=optimizer, keep_optimizer=keep_optimizer, read=read)


def _without_memory(value: Tensor) -> Tensor:
    return torch.empty(value.shape, dtype=value.dtype, device="meta")


def _forget_where_it_was_written(file: Path) -> None:
    """Leave out of torch's metadata the folder and the number of the save: the same state gives the same bytes."""
    metadata = pickle.loads(file.read_bytes())  # of this moment, by this process
    metadata.storage_meta = StorageMeta(save_id="")
    file.write_bytes(pickle.dumps(metadata))


def _cause(raised: Exception) -> Exception:
    """The error of a disk inside torch's own, which names every rank's."""
    for failure in getattr(raised, "failures", {}).values():
        error = failure[0] if isinstance(failure, tuple) else failure
        if isinstance(error, OSError):
            return error
    return raised
