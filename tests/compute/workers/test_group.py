"""Trainers on groups of ranks: the files of one process, states that any number of ranks resumes, ranks that die."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.distributed.checkpoint import state_dict_loader
from torch.distributed.checkpoint.filesystem import FileSystemReader

import ftsim
from emulator.backend import BackendError, BaseModel, CheckpointType, LoraSpec, ModelSpec, Trainer
from emulator.server import Emulator
from ftsim.compute.backend import TorchBackend
from ftsim.compute.quiet import quiet
from ftsim.compute.workers.worker import environment
from tests.compute.trainer.conftest import ADAM, batch, folders
from tests.compute.trainer.test_images import told
from tests.compute.workers.conftest import BASE, Connect, data, step
from tests.conftest import Ftsim
from tests.sdk import RequestFailedError
from tests.squares import SEES

__all__ = ["folders"]

MODEL = BaseModel(BASE)
Group = Callable[[int], TorchBackend]


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    """`group(2)` gives a backend whose trainers run on two ranks; with `group(1)` they run in this process."""
    bases = tmp_path_factory.mktemp("bases")
    backends: dict[int, TorchBackend] = {}

    def on(ranks: int) -> TorchBackend:
        if ranks not in backends:
            backends[ranks] = TorchBackend(bases, workers=0, nproc=ranks)
        return backends[ranks]

    yield on
    for backend in backends.values():
        backend.close()


def opened(backend: TorchBackend, base: BaseModel = MODEL, rank: int = 0) -> Trainer:
    trainer = backend.open_trainer(base, lora_rank=rank, max_context_length=128)
    trainer.create_model(ModelSpec("m", base, LoraSpec(rank) if rank else None))
    return trainer


def steps(trainer: Trainer, *seeds: int) -> list[float]:
    losses = []
    for seed in seeds:
        losses.append(trainer.forward_backward("m", batch(seed=seed))["metrics"]["loss:sum"])
        trainer.optim_step("m", ADAM, "num_loss_tokens")
    return losses


def made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def state(folder: Path) -> dict[str, Tensor]:
    """All tensors of a training state, as torch itself reads them in one process."""
    metadata: Any = FileSystemReader(folder).read_metadata().state_dict_metadata
    found = {name: torch.zeros(one.size, dtype=one.properties.dtype) for name, one in metadata.items()}
    with quiet():
        state_dict_loader.load(dict(found), storage_reader=FileSystemReader(folder), no_dist=True)
    return found


def same_tensors(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def same_files(one: Path, other: Path) -> bool:
    """Tell whether two folders hold the same files; the order in a delta's header is chance, by its library."""
    names = [sorted(path.name for path in folder.iterdir()) for folder in (one, other)]
    assert names[0] == names[1]
    return all(
        same_tensors(load_file(one / name), load_file(other / name))
        if name.endswith(".safetensors")
        else (one / name).read_bytes() == (other / name).read_bytes()
        for name in names[0]
    )


@pytest.mark.parametrize("rank", [0, pytest.param(4, marks=pytest.mark.slow)])
def test_a_group_trains_and_saves_as_one_process(group: Group, tmp_path: Path, rank: int) -> None:
    """Losses; a state that one process goes on with and torch reads; an export."""
    losses, saves = [], []
    for ranks in (1, 2):
        trainer = opened(group(ranks), rank=rank)
        losses.append(steps(trainer, 0, 1, 2))
        saves.append(made(tmp_path / f"{ranks}"))
        trainer.save_state("m", saves[-1])
        trainer.close()
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert len(list(saves[1].glob("*.distcp"))) == (1 if rank else 2)
    assert_resumed_alike(group(1), group(2), saves[1], tmp_path, rank)


def assert_resumed_alike(one: TorchBackend, other: TorchBackend, saved: Path, place: Path, rank: int) -> None:
    """A state that both load is saved again, and exported, alike by both."""
    again, exports = [], []
    for number, backend in enumerate((one, other)):
        trainer = opened(backend, rank=rank)
        trainer.load_state("m", saved, optimizer=True)
        again.append(made(place / f"again-{number}"))
        trainer.save_state("m", again[-1])
        exports.append(made(place / f"export-{number}"))
        trainer.save_sampler("m", exports[-1], identity="x")
        trainer.close()
    assert same_tensors(state(again[0]), state(again[1]))
    assert same_files(*exports)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize("kind", ["dense", "untied", "moe", BASE, "accounts/fireworks/models/deepseek-v3p1"])
def test_every_export_is_that_of_one_process(
    group: Group, folders: dict[str, Path], tmp_path: Path, kind: str, rank: int
) -> None:
    base = BaseModel(f"accounts/fireworks/models/{kind}", folders[kind]) if kind in folders else BaseModel(kind)
    trainer = opened(group(1), base, rank)
    states = []
    for seed in range(2):
        steps(trainer, seed)
        states.append(made(tmp_path / f"state-{seed}"))
        trainer.save_state("m", states[-1])
    trainer.close()
    kinds: tuple[CheckpointType, ...] = ("base", "merged_base") if rank else ("base", "delta")
    found: list[list[Path]] = []
    for ranks in (1, 2):
        trainer = opened(group(ranks), base, rank)
        found.append([])
        for number, how in enumerate(kinds):
            trainer.load_state("m", states[number], optimizer=True)
            folder = made(tmp_path / f"{ranks}-{how}")
            trainer.save_sampler("m", folder, identity=how, checkpoint_type=how).acknowledged()
            found[-1].append(folder)
        trainer.close()
    assert all(same_files(*pair) for pair in zip(*found, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dense", "moe"])
@pytest.mark.parametrize("path", [(2, 1, 2), (1, 2, 4), (4, 2, 1), (4, 1, 4)])
def test_a_state_is_resumed_on_any_number_of_ranks(
    group: Group, folders: dict[str, Path], tmp_path: Path, kind: str, path: tuple[int, ...]
) -> None:
    base = BaseModel(f"accounts/fireworks/models/{kind}", folders[kind])
    before: Path | None = None
    for number, ranks in enumerate(path):
        trainer = opened(group(ranks), base)
        if before is not None:
            trainer.load_state("m", before, optimizer=True)
            again = made(tmp_path / f"again-{number}")
            trainer.save_state("m", again)
            assert same_tensors(state(before), state(again))
        steps(trainer, number)
        before = made(tmp_path / f"state-{number}")
        trainer.save_state("m", before)
        trainer.close()
    assert before is not None
    found, alone = state(before), made(tmp_path / "alone")
    trainer = opened(group(1), base)
    steps(trainer, *range(len(path)))
    trainer.save_state("m", alone)
    trainer.close()
    expected = state(alone)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if name.startswith("optimizer.exp_avg"):
            assert float((found[name] - value).abs().max()) <= 1e-4 * float(value.abs().max()), name


@pytest.mark.slow
def test_the_same_steps_give_the_same_bytes(group: Group, tmp_path: Path) -> None:
    written = []
    for number in range(2):
        trainer = opened(group(2))
        steps(trainer, 0, 1)
        folder = made(tmp_path / str(number))
        trainer.save_state("m", folder)
        trainer.close()
        written.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert written[0] == written[1]


@pytest.mark.slow
def test_a_torn_state_is_refused_and_nothing_changes(group: Group, tmp_path: Path) -> None:
    trainer = opened(group(2))
    steps(trainer, 0)
    folder, before, after = (made(tmp_path / name) for name in ("state", "before", "after"))
    trainer.save_state("m", folder)
    steps(trainer, 1)
    trainer.save_state("m", before)
    shard = folder / "__1_0.distcp"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(BackendError, match="torn checkpoint"):
        trainer.load_state("m", folder, optimizer=True)
    trainer.save_state("m", after)
    assert same_tensors(state(before), state(after))
    with pytest.raises(OSError, match="missing"):
        trainer.save_state("m", tmp_path / "missing" / "folder")
    assert steps(trainer, 2)
    trainer.close()


FULL = Path("/dev/full")


@pytest.mark.slow
@pytest.mark.skipif(not FULL.exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize(("rank", "file"), [(0, "__0_0.distcp"), (0, "__1_0.distcp"), (0, ".metadata.tmp"), (4, "")])
def test_a_disk_that_gets_full_fails_the_save_and_nothing_else(
    group: Group, connect: Connect, monkeypatch: pytest.MonkeyPatch, rank: int, file: str
) -> None:
    """As in one process, whichever rank finds it: nothing half-written is listed, and the same ranks go on."""
    backend = group(2)
    with ftsim.Emulator(backend) as emulator:
        client = connect(emulator, "full", rank)
        step(client, 0)
        client.save_state("step-1").result()
        pids, stage = backend.workers.pids(), emulator.platform.blobs.stage

        def stage_on_full_disk() -> Path:
            folder = stage()
            (folder / (file or "__0_0.distcp")).symlink_to(FULL)
            return folder

        expected = step(client, 1)
        with monkeypatch.context() as patch:
            patch.setattr(emulator.platform.blobs, "stage", stage_on_full_disk)
            with pytest.raises(
                RequestFailedError, match=r"no space left on the disk .* earlier checkpoints are intact"
            ):
                client.save_state("step-2").result()
        assert client.list_checkpoints() == ["step-1"]
        assert list((emulator.platform.blobs.root / ".staging").iterdir()) == []
        assert emulator.platform.jobs.get(emulator.account, "full").state == "JOB_STATE_RUNNING"
        client.load_state_with_optimizer("step-1").result()
        assert step(client, 1) == expected
        client.save_state("step-2").result()
        assert sorted(client.list_checkpoints()) == ["step-1", "step-2"]
        assert backend.workers.pids() == pids


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize("victim", [0, 1])
def test_a_client_outlives_a_rank_that_is_killed(group: Group, connect: Connect, rank: int, victim: int) -> None:
    backend = group(2)
    with ftsim.Emulator(backend) as emulator:
        quiet = connect(emulator, "quiet", rank)
        expected = [step(quiet, seed) for seed in range(4)]
        client = connect(emulator, "killed", rank)
        found = [step(client, seed) for seed in range(2)]
        client.save_state("two").result()
        pids = backend.workers.pids()
        killing = threading.Timer(0.2, os.kill, (pids[victim], signal.SIGKILL))
        running = client.forward_backward(data(0) * 300, "cross_entropy")
        killing.start()
        with pytest.raises(Exception, match=r"the trainer stopped: .*JOB_STATE_FAILED|not running"):
            train_until_it_fails(client, running)
        assert emulator.platform.jobs.get(emulator.account, "killed").state == "JOB_STATE_FAILED"
        resumed = connect(emulator, "killed", rank)
        resumed.load_state_with_optimizer("two").result()
        assert found + [step(resumed, seed) for seed in (2, 3)] == expected
        assert len(set(pids) | set(backend.workers.pids())) == 4


def train_until_it_fails(client: Any, running: Any) -> None:
    running.result()
    for seed in range(100):
        step(client, seed)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.slow
def test_an_emulator_ends_all_ranks(connect: Connect) -> None:
    with ftsim.Emulator(trainer_nproc=2) as emulator:
        step(connect(emulator, "job", 4), 0)
        backend: Any = emulator.platform.backend
        pids = backend.workers.pids()
        assert len(pids) == 2
    until = time.monotonic() + 10
    while not all(map(gone, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    assert all(map(gone, pids))


@pytest.mark.slow
def test_what_needs_all_datums_in_one_place_is_refused(group: Group, connect: Connect) -> None:
    trainer = opened(group(2), rank=4)
    wanted = {**batch(), "loss_fn_config": {"output": "embedding"}}
    for call in (trainer.forward, trainer.forward_backward):
        with pytest.raises(BackendError, match=r"output 'embedding' looks at all datums at once.*--trainer-nproc"):
            call("m", wanted)
    with pytest.raises(BackendError, match="a trainer group trains no projection head"):
        trainer.create_model(ModelSpec("n", MODEL, LoraSpec(4), projection_head_dim=8))
    assert steps(trainer, 0)
    trainer.close()
    with ftsim.Emulator(group(2)) as emulator:
        client = connect(emulator, "job", 4)
        with pytest.raises(RequestFailedError, match=r"rank must be between|lora"):
            connect(emulator, "job", 64)
        assert step(client, 0)


@pytest.mark.slow
def test_a_group_that_was_sent_an_image_refuses_it_and_trains_on(group: Group) -> None:
    base = BaseModel(SEES)
    trainer = opened(group(2), base, rank=4)
    seen = told(group(2).folder(base), "red")
    for call in (trainer.forward, trainer.forward_backward):
        with pytest.raises(BackendError, match=r"a trainer group trains on text alone.*--trainer-nproc"):
            call("m", {"data": [seen], "loss_fn": "cross_entropy", "loss_fn_config": None})
    assert steps(trainer, 0)
    trainer.close()


@pytest.mark.parametrize("words", ["bfloat16,compile", "qwen3-8b=compile"])
def test_what_a_group_does_not_compute_is_refused_at_the_start(ftsim: Ftsim, words: str) -> None:
    done = ftsim("serve", "--memory", "--trainer-nproc", "2", "--compute", words)
    assert done.exit_code == 1
    assert "a trainer group does not compile layers" in done.stderr
    with pytest.raises(ValueError, match="a trainer group does not compile layers"):
        TorchBackend(nproc=2, compute=[words])


def test_ranks_give_memory_back_unless_the_environment_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "MALLOC_MMAP_THRESHOLD_"
    monkeypatch.delenv(name, raising=False)
    assert name not in environment(Path("socket"))
    assert int(environment(Path("socket"), 2)[name]) == 4 << 20
    monkeypatch.setenv(name, "7")
    assert environment(Path("socket"), 2)[name] == "7"


def test_ranks_are_counted_from_one() -> None:
    with pytest.raises(ValueError, match="FTSIM_TRAINER_NPROC"):
        TorchBackend(nproc=0)
    with pytest.raises(ValueError, match="processes for trainers"):
        Emulator("light", trainer_nproc=2)
