"""The workers of a backend: started when they are needed, kept warm, never more than the machine has room for."""

import itertools
import logging
import os
import threading
from collections.abc import Callable

from emulator.backend import BaseModel, Trainer
from ftsim.compute.workers.messages import Open
from ftsim.compute.workers.trainer import WorkerTrainer
from ftsim.compute.workers.worker import Worker

ROOM = 1 << 30
"""Bytes of memory that a process is counted with: torch, a small model and its moments."""
_log = logging.getLogger(__name__)


class Workers:
    """At most `most` workers. A trainer gets one that has none, else a new one, else that with the fewest."""

    def __init__(self, make: Callable[[], Worker], most: int) -> None:
        self._make = make
        self._most = most
        self._numbers = itertools.count(1)
        self._workers: list[Worker] = []
        self._lock = threading.Lock()

    def open_trainer(self, base_model: BaseModel, *, lora_rank: int, max_context_length: int) -> Trainer:
        """A trainer on one of the workers; raises BackendError, TrainerLost."""
        number = next(self._numbers)
        worker = self._chosen(number)
        try:
            life = worker.open(Open(number, base_model, lora_rank, max_context_length))
        except BaseException:
            worker.trainers.discard(number)
            raise
        return WorkerTrainer(worker, life, number)

    def warm(self) -> None:
        """Start the first worker."""
        with self._lock:
            worker = self._workers[0] if self._workers else self._added()
        worker.start()

    def pids(self) -> list[int]:
        """Process ids of the workers, in the order in which they were started, rank by rank."""
        return [pid for worker in self._workers for pid in worker.pids]

    def close(self) -> None:
        """End all workers; those that are needed later are started anew."""
        with self._lock:
            workers, self._workers = self._workers, []
        for worker in workers:
            worker.close()

    def _chosen(self, number: int) -> Worker:
        with self._lock:
            found = min(self._workers, key=lambda worker: len(worker.trainers), default=None)
            if found is None or (found.trainers and len(self._workers) < self._most):
                found = self._added()
            found.trainers.add(number)
            return found

    def _added(self) -> Worker:
        self._workers.append(self._make())
        return self._workers[-1]


def room(wanted: int, *, ranks: int = 1) -> int:
    """As many workers of so many ranks as were asked for, or as cores and memory allow; one at least."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    most = max(1, min(cores // ranks, memory // (ROOM * ranks)))
    if wanted > most:
        _log.warning(
            "ftsim: %d trainer workers were asked for; %d cores and %.0f GB of memory have room for %d",
            wanted,
            cores,
            memory / 1e9,
            most,
        )
    return min(wanted, most)
