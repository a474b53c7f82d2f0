"""`emulator.backend.Backend` with real models. Importing this module imports no torch; the first trainer does."""

import gc
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from emulator.backend import BackendError, BaseModel, ModelDescription, Replica, Trainer
from ftsim.compute.execution import PRECISIONS, Executions
from ftsim.compute.models import catalogue as models

if TYPE_CHECKING:
    from ftsim.compute.trainer.trainer import TorchTrainer
    from ftsim.compute.workers.nodes import Nodes
    from ftsim.compute.workers.pool import Workers

DEVICE = "FTSIM_DEVICE"
DTYPE = "FTSIM_DTYPE"
THREADS = "FTSIM_THREADS"
COMPUTE = "FTSIM_COMPUTE"
WORKERS = "FTSIM_TRAINER_WORKERS"
NPROC = "FTSIM_TRAINER_NPROC"
SAMPLER = "FTSIM_SAMPLER"
SamplerName = Literal["torch", "vllm"]
SAMPLERS: tuple[str, ...] = get_args(SamplerName)


class TorchBackend:
    """Trainers and replicas on one device.

    `device` defaults to FTSIM_DEVICE, else CUDA when there is one; `dtype` to FTSIM_DTYPE, else float32. `cache` keeps
    the Hugging Face folders of catalogue models; a temporary folder when None. `threads` is what torch may use within
    one operation on the CPU: FTSIM_THREADS, else 1, since small models run slower on more and the number of threads
    decides the last bits of a sum; 0 leaves torch as it is. `compute` says how models are computed, in texts of
    `Executions`; FTSIM_COMPUTE is such a text for all of them. `workers` are the processes that trainers compute in, at
    most (FTSIM_TRAINER_WORKERS, else 0: this process). With `nproc` (FTSIM_TRAINER_NPROC) each worker is a group of so
    many ranks, and `grouped` says that this process is one of them. With `nodes` there is one group, of so many ranks
    here and those of machines that join. `sampler` draws tokens: FTSIM_SAMPLER, else torch, in this process;
    vllm, in processes of its own, raises ValueError where it is not installed.
    """

    def __init__(
        self,
        cache: Path | None = None,
        *,
        device: str | None = None,
        dtype: str | None = None,
        threads: int | None = None,
        compute: Sequence[str] = (),
        workers: int | None = None,
        nproc: int | None = None,
        grouped: bool = False,
        nodes: "Nodes | None" = None,
        sampler: str | None = None,
    ) -> None:
        self._given_cache = cache
        self._device = device or os.environ.get(DEVICE)
        self._dtype = dtype or os.environ.get(DTYPE) or "float32"
        self._threads = int(os.environ.get(THREADS, "1")) if threads is None else threads
        if self._dtype not in PRECISIONS:
            raise ValueError(f"dtype is {self._dtype!r}; expected one of {', '.join(PRECISIONS)} ({DTYPE})")
        self._compute = (os.environ.get(COMPUTE, ""), *compute)
        self._executions = Executions(self._compute, self._dtype)
        self._nproc = int(os.environ.get(NPROC, "1")) if nproc is None else nproc
        wanted = int(os.environ.get(WORKERS, "0")) if workers is None else workers
        self._most_workers = max(wanted, 1) if self._nproc > 1 or nodes else wanted
        self._grouped = grouped
        self._nodes = nodes
        if wanted < 0 or self._nproc < 1:
            asked = f"{wanted} trainer workers of {self._nproc} ranks"
            raise ValueError(f"{asked}: there are 0 or more ({WORKERS}), of 1 or more ({NPROC})")
        if nodes is not None and wanted > 1:
            raise ValueError(f"{wanted} trainer workers: a group on several nodes is one, and its jobs take turns")
        if self._nproc > 1 or grouped or nodes:
            self._executions.refuse_in_groups()
        self.sampler = _sampler(sampler or os.environ.get(SAMPLER) or "torch")
        self._warm = False
        self._warming = threading.Lock()

    @cached_property
    def _cache(self) -> Path:
        if self._given_cache is not None:
            return self._given_cache
        folder = Path(tempfile.mkdtemp(prefix="ftsim-models-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder

    def ready(self) -> bool:
        return self._warm

    def warm(self) -> None:
        """Import torch and what computes with it, a second the first time; start a worker where trainers have them."""
        self._import()
        if self._most_workers:
            self.workers.warm()

    def _import(self) -> None:
        with self._warming:
            if self._warm:
                return
            collecting = gc.isenabled()
            gc.disable()  # importing makes objects that all stay: looking for garbage meanwhile is a tenth of it
            try:
                import torch

                import ftsim.compute.trainer.trainer  # noqa: F401
            finally:
                if collecting:
                    gc.enable()
            self.device()
            if self._threads > 0:
                torch.set_num_threads(self._threads)
            self._warm = True

    def knows(self, base_model: str) -> bool:
        return models.known(base_model)

    def folder(self, base_model: BaseModel) -> Path:
        if base_model.folder is not None:
            if not (base_model.folder / "config.json").exists():
                raise BackendError(f"{base_model.name} is not a base model: its folder has no config.json")
            return base_model.folder
        try:
            return models.base_folder(base_model.name, self._cache)
        except models.UnknownModelError as error:
            raise BackendError(str(error)) from None

    def describe(self, folder: Path, base_model: BaseModel | None = None) -> ModelDescription:
        self._import()
        from ftsim.compute.models.describe import describe

        return describe(folder, (base_model.name, self.folder(base_model)) if base_model else None)

    @property
    def workers(self) -> "Workers":
        """The processes that trainers compute in, where they are asked for."""
        with self._warming:
            return self._workers

    @cached_property
    def _workers(self) -> "Workers":
        from ftsim.compute.workers.messages import Settings
        from ftsim.compute.workers.pool import Workers, room
        from ftsim.compute.workers.worker import Worker

        ranks, nodes = self._nproc, self._nodes
        settings = Settings(self._cache, self._device, self._dtype, self._threads, self._compute)
        if nodes is not None:
            from ftsim.compute.workers.spread import SpreadWorker

            workers = Workers(lambda: SpreadWorker(settings, ranks, nodes), 1)
        else:
            workers = Workers(lambda: Worker(settings, ranks), room(self._most_workers, ranks=ranks))
        weakref.finalize(self, workers.close)
        return workers

    def close(self) -> None:
        """End the workers, if there are any; they are started anew when they are needed."""
        if self._nodes is not None:
            self._nodes.leave()
        if "_workers" in self.__dict__:
            self.workers.close()
        if self._nodes is not None:
            self._nodes.close()

    def open_trainer(self, base_model: BaseModel, *, lora_rank: int, max_context_length: int) -> Trainer:
        self.folder(base_model)
        if self._most_workers:
            return self.workers.open_trainer(base_model, lora_rank=lora_rank, max_context_length=max_context_length)
        self._import()
        return self._trainer_class()(
            self.folder,
            tokenizer_of=self.tokenizer_id,
            lora_rank=lora_rank,
            max_context_length=max_context_length,
            device=self.device(),
            how=self._executions.of(base_model.name),
        )

    def _trainer_class(self) -> "type[TorchTrainer]":
        if self._grouped:
            from ftsim.compute.workers.group import GroupTrainer

            return GroupTrainer
        from ftsim.compute.trainer.trainer import TorchTrainer

        return TorchTrainer

    def open_replica(self, base_model: BaseModel, *, max_context_length: int) -> Replica:
        self._import()
        folder, how = self.folder(base_model), self._executions.of(base_model.name)
        if self.sampler == "vllm":
            from ftsim.compute.vllm import replica as engine

            return engine.open_replica(folder, max_context_length=max_context_length, how=how)
        from ftsim.compute.sampler.replica import open_replica

        replica: Replica = open_replica(folder, max_context_length=max_context_length, device=self.device(), how=how)
        return replica

    def tokenizer_id(self, base_model: BaseModel) -> str:
        """Hugging Face name of the tokenizer of a catalogue model, else the model's own name."""
        return models.facts(base_model.name).tokenizer_id if models.known(base_model.name) else base_model.name

    def device(self) -> str:
        """The device to compute on; raises `BackendError` when the one asked for does not exist."""
        import torch

        found = "cuda" if torch.cuda.is_available() else "cpu"
        wanted = self._device or found
        if wanted.startswith("cuda") and found == "cpu":
            raise BackendError(f"device {wanted!r} was asked for ({DEVICE}), but torch sees no CUDA device", "server")
        return wanted

    def computes(self, base_model: str) -> str:
        words = self._executions.of(base_model).words()
        return words if self.sampler == "torch" else f"{words}; {self.sampler} samples"


def _sampler(name: str) -> str:
    """The name of a sampler that is there; raises ValueError."""
    if name not in SAMPLERS:
        raise ValueError(f"the sampler is one of {', '.join(SAMPLERS)} ({SAMPLER}), not {name[:40]!r}")
    if name == "vllm":
        from ftsim.compute.vllm import installed

        if why := installed.why_not():
            raise ValueError(why)
    return name
