"""Training states of models on several ranks; of those that are spread over them, by torch's own package.

The tensors are those that one process writes, under the same names: each rank writes its parts of them, and whoever
reads them, one process or any number of ranks, reads the parts that it needs.
"""

import errno
import os
import pickle
from collections.abc import Callable, Generator
from contextlib import contextmanager
from io import IOBase
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch import Tensor
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystem, FileSystemReader, FileSystemWriter
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
            state_dict_saver.save(dcp.state_of(model), storage_writer=_Writer(folder))
    except (Exception, CheckpointException) as raised:  # the second is no Exception
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
            try:
                with quiet():
                    state_dict_loader.load(dict(wanted), storage_reader=FileSystemReader(where))
            except CheckpointException as raised:  # what was whole a moment ago; all ranks hear of it
                why = _cause(raised)
                raise BackendError(f"{where.name} is a torn checkpoint: {why}; load an older one") from None

    dcp.load(model, folder, optimizer=optimizer, keep_optimizer=keep_optimizer, read=read)


class _Stream:
    """A file as torch writes to it, which keeps an error of the disk for the end: its writer of archives, when it is
    left by an exception, ends the process."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._at = 0
        self.error: OSError | None = None

    def write(self, part: Any) -> int:
        """Write, or pass over what comes after an error."""
        size = len(part)
        self._try(lambda: self._file.write(part))
        self._at += size
        return size

    def tell(self) -> int:
        return self._at

    def flush(self) -> None:
        self._try(self._file.flush)

    def fileno(self) -> int:
        """The descriptor, for a sync of what was written: nothing stays in the buffer. Raises OSError for all of it."""
        self.flush()
        if self.error is not None:
            raise self.error
        return self._file.fileno()

    def close(self) -> None:
        """Leave it to who has opened the file."""

    def _try(self, call: Callable[[], object]) -> None:
        try:
            if self.error is None:
                call()
        except OSError as error:
            self.error = error


class _Disk(FileSystem):
    """Files of torch's own package, where what the disk says comes out as OSError."""

    @contextmanager
    def create_stream(self, path: str | os.PathLike[str], mode: str) -> "Generator[IOBase, None, None]":
        with Path(path).open(mode) as file:
            stream = _Stream(cast("IO[bytes]", file))
            yield cast("IOBase", stream)
            stream.fileno()


class _Writer(FileSystemWriter):
    """Torch's writer of files on such a disk."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.fs = _Disk()


def _without_memory(value: Tensor) -> Tensor:
    return torch.empty(value.shape, dtype=value.dtype, device="meta")


def _forget_where_it_was_written(file: Path) -> None:
    """Leave out of torch's metadata the folder and the number of the save: the same state gives the same bytes."""
    metadata = pickle.loads(file.read_bytes())  # of this moment, by this process
    metadata.storage_meta = StorageMeta(save_id="")
    file.write_bytes(pickle.dumps(metadata))


def _cause(raised: BaseException) -> Exception:
    """The error of a disk inside torch's own, which names every rank's and is no Exception."""
    failures = [failure[0] for failure in raised.failures.values()] if isinstance(raised, CheckpointException) else []
    found = [error for error in (*failures, raised) if isinstance(error, OSError)]
    return next(iter(found), None) or (raised if isinstance(raised, Exception) else RuntimeError(str(failures[0])))
