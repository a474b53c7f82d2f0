"""Shared by all measurements: emulator processes, a trainer reached through the SDK, the same model bare."""

import contextlib
import random
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any

from emulator.state.server_record import ServerRecord
from ftsim.process.attendance import Attendance
from ftsim.process.run import default_server_command, join_server
from ftsim.testing.clients import Clients
from ftsim.tools.bench.workload import ADAM, BASE_MODEL, BATCH, LENGTH


class Stand(contextlib.ExitStack):
    """Made piece by piece when first needed; `close` ends every process."""

    def __init__(self, base: Path | None = None, batch: int = BATCH, length: int = LENGTH) -> None:
        """`base`: a Hugging Face folder to put behind BASE_MODEL."""
        super().__init__()
        self._base, self._batch, self._length = base, batch, length

    @cached_property
    def folder(self) -> Path:
        return Path(self.enter_context(tempfile.TemporaryDirectory(prefix="ftsim-bench-", ignore_cleanup_errors=True)))

    def server_on(self, state_dir: Path) -> ServerRecord:
        """An emulator process on a state folder, started as `ftsim run` starts it."""
        command = default_server_command(state_dir.resolve())
        if self._base is not None:
            command += ["--model", f"{BASE_MODEL}={self._base}"]
        record, client = join_server(Attendance(state_dir), command)
        self.callback(client.leave)
        self.callback(end, record.pid, state_dir)
        return record

    @cached_property
    def server(self) -> ServerRecord:
        return self.server_on(self.folder / "state")

    @cached_property
    def clients(self) -> Clients:
        """The vendor's clients on `server`."""
        return self.enter_context(
            contextlib.closing(Clients(self.server.url, self.server.api_key, self.server.account_id))
        )

    @property
    def manager(self) -> Any:
        return self.clients.manager

    def client(self, job_id: str, lora_rank: int = 0, base_model: str = BASE_MODEL, **job: Any) -> Any:
        """A training client of the SDK on a new job."""
        from fireworks.training.sdk import TrainerJobConfig

        config = TrainerJobConfig(
            base_model=base_model,
            lora_rank=lora_rank,
            learning_rate=1e-4,
            max_context_length=4096,
            requested_job_id=job_id,
            **job,
        )
        endpoint = self.manager.create_and_wait(config)
        service = self.clients.service_at(endpoint.base_url)
        return service.create_training_client(base_model=base_model, lora_rank=lora_rank)

    @cached_property
    def full(self) -> Any:
        """The full-parameter training client that most measurements use."""
        return self.client("bench-full")

    @cached_property
    def bare(self) -> Any:
        from ftsim.tools.bench.bare import BareTrainer

        return BareTrainer(self.base_folder)

    @cached_property
    def base_folder(self) -> Path:
        """The base model's files."""
        from ftsim.compute.models import catalogue as models

        if self._base is not None:
            return self._base
        return models.base_folder(BASE_MODEL, self.folder / "base")

    @cached_property
    def large(self) -> "Stand":
        """The same on a model of 40 MB, with a batch just large enough to change its weights."""
        from ftsim.tools.bench.bare import large_model

        large_model(self.base_folder, self.folder / "large")
        return self.enter_context(Stand(self.folder / "large", batch=2, length=16))

    @cached_property
    def rows(self) -> list[list[int]]:
        """Token ids, a batch of rows, each a token longer than `length`."""
        drawn = random.Random(0)
        return [[drawn.randrange(2000) for _ in range(self._length + 1)] for _ in range(self._batch)]

    @cached_property
    def datums(self) -> list[Any]:
        """The same rows as the SDK wants them."""
        import torch
        from fireworks.training.sdk import types

        return [
            types.Datum(
                model_input=types.ModelInput.from_ints(row[:-1]),
                loss_fn_inputs={
                    "target_tokens": types.TensorData.from_torch(torch.tensor(row[1:])),
                    "weights": types.TensorData.from_torch(torch.ones(self._length)),
                },
            )
            for row in self.rows
        ]

    def step(self, client: Any, datums: Any = None, loss_fn: str = "cross_entropy") -> None:
        """One optimizer step through the SDK, both calls in flight together."""
        from fireworks.training.sdk import types

        forward = client.forward_backward(datums or self.datums, loss_fn)
        update = client.optim_step(types.AdamParams(**ADAM), grad_accumulation_normalization="num_loss_tokens")
        forward.result()
        update.result()


def end(pid: int, state_dir: Path) -> None:
    """End a server, and wait until it has left."""
    import os
    import signal
    import time

    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    for _ in range(250):
        if Attendance(state_dir).server() is None:
            return
        time.sleep(0.02)
