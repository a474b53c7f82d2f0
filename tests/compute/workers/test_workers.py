"""Trainers in worker processes: the same files and refusals as in the emulator's, and a client that outlives a kill."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

import ftsim
from emulator.backend import BackendError, BaseModel, LoraSpec, ModelSpec, Trainer
from emulator.core.errors import TrainerLost
from emulator.server import Emulator
from ftsim.compute.backend import TorchBackend
from ftsim.compute.workers import pool
from ftsim.compute.workers.messages import Failure
from tests.compute.trainer.conftest import ADAM, batch
from tests.compute.workers.conftest import BASE, Connect, data, step
from tests.conftest import Ftsim
from tests.sdk import RequestFailedError

MODEL = BaseModel(BASE)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bases")


@pytest.fixture(scope="module")
def backend(bases: Path) -> Iterator[TorchBackend]:
    """A backend with one worker, which the tests of this module share."""
    backend = TorchBackend(bases, workers=1)
    with contextlib.closing(backend):
        yield backend


@pytest.fixture(scope="module")
def emulator(backend: TorchBackend) -> Iterator[Emulator]:
    with ftsim.Emulator(backend) as emulator:
        yield emulator


def content(path: Path) -> bytes:
    """The bytes of a file; the order in a delta's header is chance, by the library that writes it."""
    if path.suffix != ".safetensors":
        return path.read_bytes()
    with safe_open(path, "np") as opened:
        tensors = {name: opened.get_tensor(name) for name in sorted(opened.keys())}
        told = sorted((opened.metadata() or {}).items())
    return repr((told, [(name, str(one.dtype), one.shape, one.tobytes()) for name, one in tensors.items()])).encode()


def files(emulator: Emulator) -> dict[str, bytes]:
    """The bytes that the backend wrote, by row and name; a client ends the names of sampler rows by chance."""
    found: dict[str, bytes] = {}
    for row in emulator.world.checkpoints:
        folder = emulator.platform.blobs.path(row.blob)
        for path in folder.rglob("*"):
            if path.is_file() and path.name != ".ftsim.json":  # a record with times
                found[f"{row.id[:9]} {path.relative_to(folder)}"] = content(path)
    return found


def life(emulator: Emulator, connect: Connect) -> tuple[list[float], dict[str, bytes]]:
    """The life of a LoRA and of a full-parameter job through the vendor's client: losses and files."""
    losses = []
    for job, rank, saves in (("job-a", 4, ("base", "merged_base")), ("job-b", 0, ("base", "delta"))):
        client = connect(emulator, job, rank)
        losses += [step(client, 0), step(client, 1)]
        client.save_state(f"{job}-two").result()
        for save in saves:
            client.save_weights_for_sampler_ext(f"{job}-{save[:3]}", checkpoint_type=save)
            losses.append(step(client, 2))
        client.load_state_with_optimizer(f"{job}-two").result()
        losses.append(step(client, 2))
    emulator.platform.close()
    return losses, files(emulator)


def test_a_worker_gives_the_files_and_numbers_of_the_emulators_own_process(bases: Path, connect: Connect) -> None:
    found = []
    torch.manual_seed(0)  # as a worker begins: the state of torch's generator is in training states
    for workers in (0, 2):
        backend = TorchBackend(bases, workers=workers)
        with contextlib.closing(backend), ftsim.Emulator(backend, seed=5) as emulator:
            found.append(life(emulator, connect))
    (losses, before), (others, after) = found
    assert losses == others
    assert len(losses) == 10
    assert losses[4] == losses[2]
    assert {name.rpartition(".")[2] for name in before} >= {"distcp", "safetensors", "json"}
    assert [name for name in before if before[name] != after.get(name)] == []
    assert before.keys() == after.keys()


REFUSALS: dict[str, Callable[[Trainer, Path], object]] = {
    "rank": lambda trainer, _: trainer.create_model(ModelSpec("n", MODEL, LoraSpec(64))),
    "model": lambda trainer, _: trainer.forward("nobody", batch()),
    "loss": lambda trainer, _: trainer.forward_backward("m", batch("no_such_loss")),
    "settings": lambda trainer, _: trainer.optim_step("m", {"learning_rate": -1}, None),
    "state": lambda trainer, folder: trainer.load_state("m", folder, optimizer=True),
    "disk": lambda trainer, folder: trainer.save_state("m", folder / "there-is-none"),
    "a fault of ours": lambda trainer, _: trainer.forward("m", None),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_worker_refuses_as_the_emulators_own_process_does(
    bases: Path, backend: TorchBackend, tmp_path: Path, case: str
) -> None:
    raised = []
    for one in (TorchBackend(bases, workers=0), backend):
        trainer = one.open_trainer(MODEL, lora_rank=4, max_context_length=64)
        trainer.create_model(ModelSpec("m", MODEL, LoraSpec(4)))
        with pytest.raises(Exception) as error:
            REFUSALS[case](trainer, tmp_path)
        trainer.close()
        raised.append(error.value)
    ours, theirs = raised
    assert type(ours).__name__ == type(theirs).__name__
    assert str(ours) == str(theirs)
    assert getattr(ours, "category", None) == getattr(theirs, "category", None)
    assert getattr(ours, "errno", None) == getattr(theirs, "errno", None)
    assert any("In the process of the trainer" in note for note in theirs.__notes__)


def test_an_error_that_cannot_be_pickled_crosses_by_its_name_and_words() -> None:
    class OddError(Exception):
        def __init__(self, one: int, other: int) -> None:
            super().__init__(f"{one} and {other}")

    error = Failure.of(OddError(1, 2)).error()
    assert (type(error).__name__, str(error)) == ("OddError", "1 and 2")


@pytest.mark.parametrize("rank", [0, 4])
def test_a_client_outlives_a_worker_that_is_killed(
    emulator: Emulator, backend: TorchBackend, connect: Connect, rank: int
) -> None:
    quiet = connect(emulator, f"quiet-{rank}", rank)
    expected = [step(quiet, seed) for seed in range(4)]
    job = f"killed-{rank}"
    client = connect(emulator, job, rank)
    found = [step(client, seed) for seed in range(2)]
    client.save_state("two").result()
    os.kill(backend.workers.pids()[0], signal.SIGKILL)
    with pytest.raises(RequestFailedError, match=r"the trainer stopped: .*JOB_STATE_FAILED, its process ended by sig"):
        step(client, 2)
    assert emulator.platform.jobs.get(emulator.account, job).state == "JOB_STATE_FAILED"
    resumed = connect(emulator, job, rank)
    resumed.load_state_with_optimizer("two").result()
    assert found + [step(resumed, seed) for seed in (2, 3)] == expected
    assert emulator.platform.jobs.get(emulator.account, job).state == "JOB_STATE_RUNNING"


def test_a_worker_that_is_killed_at_work_fails_what_runs_and_what_waits(
    emulator: Emulator, backend: TorchBackend, connect: Connect
) -> None:
    client = connect(emulator, "at-work")
    step(client, 0)
    worker = backend.workers.pids()[0]
    os.kill(worker, signal.SIGSTOP)  # so that none is done before the kill, however fast the machine is
    running = [client.forward_backward(data(seed), "cross_entropy") for seed in range(3)]
    time.sleep(0.3)
    os.kill(worker, signal.SIGKILL)
    for one in running:  # those that are sent a moment later find no trainer
        with pytest.raises(Exception, match=r"the trainer stopped|not running"):
            one.result()


def test_a_session_of_the_pool_outlives_its_worker(emulator: Emulator, backend: TorchBackend) -> None:
    from fireworks.training.sdk import FiretitanServiceClient

    gateway = f"{emulator.url}/training/v1/serverless"
    with contextlib.closing(FiretitanServiceClient(base_url=gateway, api_key=emulator.api_key)) as service:
        client = service.create_training_client(base_model=BASE, lora_rank=4)
        before = step(client, 0)
        os.kill(backend.workers.pids()[0], signal.SIGKILL)
        with pytest.raises(RequestFailedError, match=r"the trainer stopped: .*SESSION_STATE_READY"):
            step(client, 1)
        again = service.create_training_client(base_model=BASE, lora_rank=4, seed=0)  # the same draw as without a seed
        assert step(again, 0) == before


def test_trainers_share_workers_where_there_are_more_of_them(bases: Path) -> None:
    with contextlib.closing(TorchBackend(bases, workers=1)) as backend:
        first, second = (backend.open_trainer(MODEL, lora_rank=4, max_context_length=64) for _ in range(2))
        losses = []
        for trainer in (first, second):
            trainer.create_model(ModelSpec("m", MODEL, LoraSpec(4)))
            losses.append(trainer.forward_backward("m", batch())["metrics"])
            trainer.optim_step("m", ADAM, None)
        assert losses[0] == losses[1]
        assert len(backend.workers.pids()) == 1
        first.close()
        assert second.info("m").lora_rank == 4
        (pid,) = backend.workers.pids()
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(TrainerLost):
            second.info("m")
        second.close()
        third = backend.open_trainer(MODEL, lora_rank=4, max_context_length=64)
        third.create_model(ModelSpec("m", MODEL, LoraSpec(4)))
        assert backend.workers.pids() != [pid]


def test_a_machine_has_room_for_so_many_workers(caplog: pytest.LogCaptureFixture) -> None:
    assert pool.room(1) == 1
    assert pool.room(1, ranks=4096) == 1
    assert caplog.text == ""
    assert pool.room(1 << 20) < 1 << 20
    assert "trainer workers were asked for" in caplog.text


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_no_worker_outlives_its_emulator(bases: Path) -> None:
    program = (
        "import sys, time, pathlib; from ftsim.compute.backend import TorchBackend\n"
        "backend = TorchBackend(pathlib.Path(sys.argv[1]), workers=1)\n"
        "backend.workers.warm(); print(backend.workers.pids()[0], flush=True); time.sleep(60)"
    )
    emulator = subprocess.Popen([sys.executable, "-c", program, str(bases)], stdout=subprocess.PIPE, text=True)
    assert emulator.stdout is not None
    pid = int(emulator.stdout.readline())
    assert alive(pid)
    emulator.kill()
    emulator.communicate()
    until = time.monotonic() + 10
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert not alive(pid)


def test_an_emulator_ends_the_workers_it_has_started(connect: Connect) -> None:
    with ftsim.Emulator(trainer_workers=1) as emulator:
        step(connect(emulator, "job", 4), 0)
        backend: Any = emulator.platform.backend
        (pid,) = backend.workers.pids()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_what_cannot_have_workers_is_refused(ftsim: Ftsim) -> None:
    done = ftsim("serve", "--light", "--memory", "--trainer-workers", "2")
    assert done.exit_code == 1
    assert "--trainer-workers is about models, and --light has none" in done.stderr
    done = ftsim("run", "--fast-forward", "--trainer-workers", "1", "train.py")
    assert done.exit_code == 2
    assert "--fast-forward does not see who waits in the processes of trainers" in done.stderr
    with pytest.raises(ValueError, match="the light backend has no processes for trainers"):
        Emulator("light", trainer_workers=1)
    with pytest.raises(ValueError, match="go with a backend by name: give yours its own"):
        Emulator(TorchBackend(), trainer_workers=1)
    with pytest.raises(ValueError, match="FTSIM_TRAINER_WORKERS"):
        TorchBackend(workers=-1)
    backend = TorchBackend(workers=1, device="cuda:99")
    with contextlib.closing(backend), pytest.raises(BackendError, match="torch sees no CUDA device"):
        backend.open_trainer(MODEL, lora_rank=4, max_context_length=64)
