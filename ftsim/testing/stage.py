"""An emulator in this process, the vendor's clients on it, and a look behind its wire; one is kept for many examples.

Clients that hold state of a trainer are made anew when that state is lost; nothing here sleeps.
"""

import atexit
import logging
import shutil
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from pathlib import Path
from typing import Any

from emulator.core.clock import Clock
from emulator.core.errors import NotFound
from emulator.quirks import jobs
from emulator.quirks.engine import Quirks
from emulator.server import Emulator
from emulator.state.entities import Checkpoint
from ftsim.compute.trainer.live import LiveModel
from ftsim.testing.clients import Clients, close_quietly
from ftsim.testing.tiny import NAME, tiny_model
from ftsim.testing.trainer_state import TrainerState, live_model, read_state

_QUICK = Path("/dev/shm")


class Stage(Clients):
    """A running emulator and what drives it."""

    def __init__(self, emulator: Emulator) -> None:
        super().__init__(emulator.url, emulator.api_key, emulator.account)
        self.emulator = emulator
        self.clear_quirks()

    def clear_quirks(self) -> None:
        """Turn every switch off but one: the clock of a stage leaps, so no job is idle unless it says when."""
        self.quirks.clear()
        self.quirks.set(jobs.INACTIVITY_S, 0.0)

    @property
    def quirks(self) -> Quirks:
        return self.emulator.quirks

    @property
    def clock(self) -> Clock:
        return self.emulator.clock

    def live(self, client: Any) -> LiveModel:
        """The real model behind a training client, in the trainer's memory; raises LookupError."""
        return live_model(self.emulator, client.model_id)

    def trainer_state(self, client: Any) -> TrainerState:
        """The state of a client's model on the trainer at this moment."""
        return read_state(self.live(client))

    def rows(self, job: str) -> list[Checkpoint]:
        """The rows of a job as they are, oldest first."""
        return list(self.emulator.platform.checkpoints.rows(self.job_name(job)))

    def row(self, job: str, name: str) -> Checkpoint:
        """The entity behind a row; raises NotFound."""
        found = self.emulator.world.checkpoints.get(f"{self.job_name(job)}/checkpoints/{name}")
        if found is None:
            raise NotFound(f"{job} has no row {name}")
        return found

    def blob(self, row: Checkpoint) -> Path:
        """The folder with a row's files."""
        return self.emulator.platform.blobs.fetch(row.blob)


class KeptStage(Stage):
    """A stage over a state folder of its own, reset between examples and restarted at will, until the process ends."""

    def __init__(self, backend: Any = None) -> None:
        import torch

        from ftsim.compute.backend import TorchBackend

        torch.set_num_threads(1)
        logging.getLogger("fireworks").setLevel(logging.CRITICAL)  # refusals are looked for here
        base = _QUICK if _QUICK.is_dir() else None
        self._folder = Path(tempfile.mkdtemp(prefix="ftsim-stage-", dir=base))
        self._backend = backend or TorchBackend(self._folder / "base-models", device="cpu", dtype="float32")
        self._closing = ThreadPoolExecutor(4, thread_name_prefix="close-client")
        self._left: list[Future[None]] = []
        super().__init__(self._started(port=0))
        atexit.register(self.close)

    def _started(self, port: int) -> Emulator:
        models = {NAME: tiny_model()}
        return Emulator(self._backend, state_dir=self._folder / "state", port=port, models=models).start()

    def restart(self) -> None:
        """Stop the emulator and start it again on the same state folder and port; live models are lost."""
        self.drop_clients()
        wait(self._left)
        self.emulator.stop()
        self.emulator = self._started(self.emulator.port)
        self.clear_quirks()

    def reset(self) -> None:
        """Lose every client and all state."""
        self.drop_clients()
        self.emulator.reset()
        self.emulator.clock.start_anew()  # a manager compares with this machine's time what others have not slept
        self.clear_quirks()

    def drop_clients(self) -> None:
        """Close clients aside; a close waits for its own background tasks."""
        self._left = [left for left in self._left if not left.done()]
        self._left += [self._closing.submit(close_quietly, service) for service in self.given_up()]

    def close(self) -> None:
        self._closing.shutdown(wait=False)
        self._opened.close()
        self.emulator.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


@cache
def stage() -> KeptStage:
    """The stage of this process."""
    return KeptStage()
