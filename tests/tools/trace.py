"""Counts how far a request wanders: the files of the emulator that it enters, and the jumps from one to another.

    python -m tests.tools.trace            # the four walks of docs/architecture.md
    python -m tests.tools.trace promotion  # one of them, jump by jump

A jump is a call into another file of the emulator than that of its nearest caller there, on whichever thread it is
made. What the vendor's client or a library does in between is no jump, and neither is coming back or going on after an
`await`. Whatever computes (`emulator/light`) is left out: only what the platform does is counted.
"""

import opcode
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import httpx

import emulator as package
from emulator.platform.jobs.spec import JobSpec
from emulator.server import Emulator
from tests.doubles import BASE, DictBackend

RESUME = opcode.opmap["RESUME"]
ROOT = Path(package.__file__).parent
_PREFIX = f"{ROOT}/"
_COMPUTES = f"{ROOT}/light/"
JOB = "j1"


def _counts(file: str) -> bool:
    return file.startswith(_PREFIX) and not file.startswith(_COMPUTES)


@dataclass
class Walk:
    """Holds the calls into each file, and the jumps, as pairs of files, in the order in which they were made."""

    calls: Counter[str] = field(default_factory=Counter)
    jumps: list[tuple[str, str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{len(self.calls)} files, {len(self.jumps)} jumps"


class Tracer:
    """Watches the calls of every thread that is started after `install`, while `walk` is open."""

    def __init__(self) -> None:
        self._walk: Walk | None = None

    def install(self) -> None:
        threading.setprofile(self._saw)

    @contextmanager
    def walk(self) -> Iterator[Walk]:
        """Everything that the emulator does inside."""
        walk = self._walk = Walk()
        sys.setprofile(self._saw)
        try:
            yield walk
        finally:
            sys.setprofile(None)
            self._walk = None

    def _saw(self, frame: FrameType, event: str, _: Any) -> None:
        walk = self._walk
        code = frame.f_code
        if walk is None or event != "call" or not _counts(code.co_filename):
            return
        if code.co_code[frame.f_lasti] == RESUME and code.co_code[frame.f_lasti + 1]:  # goes on after an await
            return
        file = frame.f_code.co_filename.removeprefix(_PREFIX)
        walk.calls[file] += 1
        caller = frame.f_back
        while caller is not None and not _counts(caller.f_code.co_filename):
            caller = caller.f_back
        before = "" if caller is None else caller.f_code.co_filename.removeprefix(_PREFIX)
        if before != file:
            walk.jumps.append((before, file, frame.f_code.co_qualname))


WALKS = ("save", "promotion", "completion", "list")
_TRIES = 3


def walks() -> dict[str, Walk]:
    """The shortest of three walks of each kind, so that neither a first time nor a heartbeat counts."""
    tracer, found = Tracer(), dict[str, Walk]()
    tracer.install()
    try:
        with ExitStack() as open_:
            folder = Path(open_.enter_context(tempfile.TemporaryDirectory()))
            emulator = open_.enter_context(Emulator(DictBackend(folder)))
            actions = _actions(emulator, folder, open_)
            for attempt in range(_TRIES):
                for name, action in actions.items():
                    with tracer.walk() as walk:
                        action(attempt)
                    found[name] = min(found.get(name, walk), walk, key=lambda one: len(one.jumps))
    finally:
        threading.setprofile(None)
    return found


def _actions(emulator: Emulator, folder: Path, open_: ExitStack) -> dict[str, Callable[[int], object]]:
    """The actions that are traced, by name; each takes the number of the attempt."""
    from fireworks.training.sdk import FireworksClient
    from fireworks.training.sdk.client import FiretitanServiceClient

    from ftsim.training.checkpoints.manager import TrainingCheckpoints

    emulator.platform.jobs.create(emulator.account, JobSpec(base_model=BASE), JOB)
    gateway = f"{emulator.url}/training/v1/rlorTrainerJobs/{emulator.account}/{JOB}"
    service = FiretitanServiceClient(base_url=gateway, api_key=emulator.api_key)
    open_.callback(service.close)
    client = service.create_training_client(base_model=BASE, lora_rank=0)
    saved = client.save_weights_for_sampler_ext("base", checkpoint_type="base").snapshot_name
    models = FireworksClient(api_key=emulator.api_key, base_url=emulator.url)
    open_.callback(models.close)
    checkpoints = TrainingCheckpoints(client, models, trainer_id=JOB, log_path=folder / "run")
    row = f"accounts/{emulator.account}/rlorTrainerJobs/{JOB}/checkpoints/{saved}"
    http = open_.enter_context(httpx.Client(base_url=emulator.url, headers={"X-Api-Key": emulator.api_key}))
    asked = {"model": BASE, "prompt": [97, 98], "max_tokens": 2}
    return {
        "save": lambda number: checkpoints.save(f"step-{number}", data_consumed=number),
        "promotion": lambda number: models.promote_checkpoint(
            name=row, output_model_id=f"promoted-{number}", base_model=BASE
        ),
        "completion": lambda _: http.post("/inference/v1/completions", json=asked).raise_for_status(),
        "list": lambda _: models.list_checkpoints(JOB),
    }


if __name__ == "__main__":
    for name, walk in walks().items():
        if name in (sys.argv[1:] or WALKS):
            print(f"{name}: {walk}")
            if sys.argv[1:]:
                print(*(f"  {file:45} from {before or '-':45} {what}" for before, file, what in walk.jumps), sep="\n")
