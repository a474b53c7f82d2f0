"""The process that computes: a rank of a worker. It answers the emulator, one message at a time, until that goes.

The emulator names a socket in FTSIM_WORKER. A worker of one rank is this process alone; torchrun, or the node that has
started it, tells a rank of a group who it is.
"""

import contextlib
import gc
import os
import signal
import socket
import threading
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from typing import Any

from emulator.backend import SavedState, Trainer
from emulator.core import own_warnings
from ftsim.compute import libraries
from ftsim.compute.workers import rendezvous, sealed
from ftsim.compute.workers.messages import ACKNOWLEDGE, WRITE, Call, Failure, Open, Saved, Settings
from ftsim.compute.workers.sealed import Sealed

ADDRESS = "FTSIM_WORKER"
RANKS = int(os.environ.get("WORLD_SIZE", "1")) if ADDRESS in os.environ else 1


class Trainers:
    """The trainers of this process, by number."""

    def __init__(self, settings: Settings) -> None:
        import torch

        from ftsim.compute.backend import TorchBackend

        self._backend = TorchBackend(
            settings.cache,
            device=settings.device,
            dtype=settings.dtype,
            threads=settings.threads,
            compute=settings.compute,
            workers=0,
            nproc=1,
            grouped=RANKS > 1,
        )
        self._backend.warm()
        torch.manual_seed(0)  # else torch draws a seed for each process, and it is in every training state
        self._trainers: dict[int, Trainer] = {}
        self._saves: dict[tuple[int, str], SavedState] = {}

    def carry_out(self, message: Open | Call) -> Any:
        """Do what a message asks; raises what the trainer raises."""
        number = message.trainer
        if isinstance(message, Open):
            self._trainers[number] = self._backend.open_trainer(
                message.base_model, lora_rank=message.lora_rank, max_context_length=message.max_context_length
            )
            return None
        if message.method == ACKNOWLEDGE:
            return self._saves.pop((number, message.arguments[0])).acknowledged()
        if message.method == WRITE:
            return _write(self._saves[number, message.arguments[0]], message.named["address"])
        answer = getattr(self._trainers[number], message.method)(*message.arguments, **message.named)
        if isinstance(answer, SavedState):
            self._saves[number, message.arguments[0]] = answer
            return Saved(answer.step, answer.previous_snapshot, answer.write is not None)
        if message.method == "close":
            del self._trainers[number]
            self._saves = {key: saved for key, saved in self._saves.items() if key[0] != number}
            gc.collect()
        return answer


def _write(saved: SavedState, address: str) -> None:
    """Write what was staged on a thread of its own, which tells how it went at an address."""
    meeting = _reached(address)

    def run() -> None:
        failed: Failure | None = None
        with meeting as told, contextlib.suppress(OSError):
            try:
                assert saved.write is not None
                saved.write()
            except Exception as error:  # as of every other call
                failed = Failure.of(error)
            told.send(failed)

    threading.Thread(target=own_warnings.apart(run), name="save", daemon=True).start()  # it goes with the emulator


def main() -> None:
    """Meet the emulator, then answer it until it closes the connection or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the emulator, which lets what runs finish
    gone = (EOFError, OSError)
    with own_warnings.ignored(), contextlib.suppress(*gone), met(os.environ[ADDRESS]) as emulator:
        serve(emulator)


def serve(emulator: "Connection[Any, Any] | Sealed") -> None:
    """Get ready, and answer the emulator; raises EOFError and OSError once it is gone."""
    settings = emulator.recv()
    gc.disable()
    if RANKS == 1:  # a group computes with parts of torch that need all of it
        libraries.import_torch()
    try:
        trainers = Trainers(settings)
    except Exception as error:  # a device that there is none of, torch that cannot be imported
        emulator.send(Failure.of(error))
        return
    gc.freeze()
    gc.enable()
    emulator.send(None)
    while True:
        message = emulator.recv()
        try:
            answer = trainers.carry_out(message)
        except Exception as error:  # whatever it is, it is the emulator's to tell
            answer = Failure.of(error)
        emulator.send(answer)


def met(address: str) -> "AbstractContextManager[Connection[Any, Any] | Sealed]":
    """The connection to the emulator, which is told who has come: over a socket here, or LIFE@HOST:PORT elsewhere."""
    life, elsewhere, place = address.partition("@")
    if elsewhere:
        far = sealed.connected(rendezvous.endpoint(place), os.environ[rendezvous.SECRET])
        far.send(rendezvous.Rank(life, int(os.environ["RANK"]), os.getpid()))
        return contextlib.closing(far)
    emulator = _reached(address)
    emulator.send((int(os.environ.get("RANK", "0")), os.getpid()))
    return emulator


def _reached(address: str) -> "Connection[Any, Any]":
    """A connection to who listens at a socket of this machine; raises OSError."""
    with socket.socket(socket.AF_UNIX) as meeting:
        meeting.connect(address)
        return Connection(meeting.detach())
