"""Training state: a run that is continued is the run that was never interrupted; what does not fit changes nothing."""

import contextlib
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from emulator.backend import BackendError, BaseModel, LoraSpec, ModelSpec
from emulator.core.kinds import CheckpointKind, detect
from ftsim.compute.checkpoints import dcp, pieces
from ftsim.compute.trainer.trainer import TorchTrainer
from tests.compute.trainer.conftest import ADAM, Start, batch, gradients, same, weights


def _run(trainer: TorchTrainer, first: int, steps: int) -> None:
    for step in range(first, first + steps):
        trainer.forward_backward("m", batch(seed=step))
        trainer.optim_step("m", ADAM, "num_loss_tokens")


def _moments(trainer: TorchTrainer) -> dict[str, torch.Tensor]:
    held = trainer._model("m")
    return {
        f"{name}.{key}": moment
        for name, value in held.trained.items()
        for key, moment in held.optimizer.state[value].items()
    }


def _saved(trainer: TorchTrainer, folder: Path) -> Path:
    folder.mkdir()
    trainer.save_state("m", folder)
    return folder


@pytest.mark.parametrize("kind", ["dense", "moe"])
@pytest.mark.parametrize("rank", [0, 4])
def test_a_resumed_run_ends_with_the_bits_of_an_uninterrupted_one(
    start: Start, tmp_path: Path, kind: str, rank: int
) -> None:
    whole, interrupted = start(kind, rank), start(kind, rank)
    _run(whole, 0, 5)
    _run(interrupted, 0, 3)
    folder = _saved(interrupted, tmp_path / "step-3")
    resumed = start(kind, rank, seed=8)
    resumed.load_state("m", folder, optimizer=True)
    _run(resumed, 3, 2)
    assert same(weights(whole), weights(resumed))
    assert same(_moments(whole), _moments(resumed))
    assert resumed.optim_step("m", ADAM, None)["step"] == 6


def test_a_large_state_is_read_into_its_place_and_only_when_all_of_it_is_whole(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, trained = start("dense"), start("dense")
    _run(source, 0, 2)
    _run(trained, 5, 2)
    folder = _saved(source, tmp_path / "step-2")
    monkeypatch.setattr(dcp, "BESIDE", 0)
    monkeypatch.setattr(pieces, "_SMALL", 0)
    before, held = weights(trained), trained._model("m").trained
    file = folder / "__0_0.distcp"
    content = file.read_bytes()
    for at in range(40, len(content), len(content) // 12):
        file.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        with contextlib.suppress(BackendError):  # a bit between two records changes nothing
            trained.load_state("m", folder, optimizer=True)
            assert same(weights(trained), weights(source))
            continue
        assert same(weights(trained), before)
    file.write_bytes(content)
    trained.load_state("m", folder, optimizer=True)
    assert held is trained._model("m").trained
    _run(trained, 2, 2)
    _run(source, 2, 2)
    assert same(weights(trained), weights(source))
    assert same(_moments(trained), _moments(source))


@pytest.mark.parametrize(("rank", "kind"), [(0, CheckpointKind.TRAINING), (4, CheckpointKind.TRAINING_LORA)])
def test_the_folder_says_what_was_trained(start: Start, tmp_path: Path, rank: int, kind: CheckpointKind) -> None:
    trainer = start("dense", rank)
    _run(trainer, 0, 2)
    folder = _saved(trainer, tmp_path / "step-2")
    assert detect(folder) is kind
    state = json.loads((folder / "training_state.json").read_text())
    assert (state["step"], state["base_model"]) == (2, "accounts/fireworks/models/tiny")
    assert state["files"].keys() == {".metadata", "__0_0.distcp"}


def test_one_state_gives_one_set_of_bytes(start: Start, tmp_path: Path) -> None:
    folders = []
    for name in ("a", "b"):
        trainer = start("dense", 4)
        torch.manual_seed(5)
        _run(trainer, 0, 2)
        folders.append(_saved(trainer, tmp_path / name))
    for path in folders[0].iterdir():
        assert path.read_bytes() == (folders[1] / path.name).read_bytes(), path.name


def test_weights_alone_reset_moments_and_step(start: Start, tmp_path: Path) -> None:
    source = start("dense")
    _run(source, 0, 3)
    folder = _saved(source, tmp_path / "step-3")
    loaded = start("dense")
    _run(loaded, 7, 2)
    loaded.load_state("m", folder, optimizer=False)
    assert same(weights(source), weights(loaded))
    assert not loaded._model("m").optimizer.state
    loaded.forward_backward("m", batch(seed=3))
    assert loaded.optim_step("m", ADAM, None)["step"] == 1
    _run(source, 3, 1)
    assert not same(weights(source), weights(loaded))


def test_a_load_into_a_live_model_drops_its_gradients(start: Start, tmp_path: Path) -> None:
    trainer, other = start("dense"), start("dense")
    _run(trainer, 0, 2)
    folder = _saved(trainer, tmp_path / "step-2")
    trainer.forward_backward("m", batch(seed=9))
    trainer.load_state("m", folder, optimizer=True)
    other.load_state("m", folder, optimizer=True)
    for live in (trainer, other):
        assert live.optim_step("m", ADAM, "num_loss_tokens")["num_loss_tokens"] == 0
    assert same(weights(trainer), weights(other))


def test_a_state_before_the_first_step_has_no_moments_to_restore(start: Start, tmp_path: Path) -> None:
    folder = _saved(start("dense", 4), tmp_path / "step-0")
    resumed, fresh = start("dense", 4, seed=9), start("dense", 4)
    resumed.load_state("m", folder, optimizer=True)
    for trainer in (resumed, fresh):
        _run(trainer, 0, 1)
    assert same(weights(resumed), weights(fresh))


def _other_model(folder: Path) -> None:
    state = json.loads((folder / "training_state.json").read_text())
    (folder / "training_state.json").write_text(json.dumps(state | {"base_model": "accounts/fireworks/models/other"}))


def _format(folder: Path) -> None:
    state = json.loads((folder / "training_state.json").read_text())
    (folder / "training_state.json").write_text(json.dumps(state | {"format_version": 99}))


def _truncate(name: str, keep: int) -> Callable[[Path], None]:
    def cut(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:keep])

    return cut


def _without(*names: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return remove


def _replaced(name: str, content: bytes) -> Callable[[Path], None]:
    """Other bytes under a name whose declared size agrees with them."""

    def replace(folder: Path) -> None:
        (folder / name).write_bytes(content)
        state = json.loads((folder / "training_state.json").read_text())
        state["files"][name] = len(content)
        (folder / "training_state.json").write_text(json.dumps(state))

    return replace


class _Trap:
    """Leaves a mark when it is unpickled."""

    sprung = 0

    def __reduce__(self) -> Any:
        return (_spring, ())


def _spring() -> None:
    _Trap.sprung += 1


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_without("training_state.json"), "torn"),
        (_without("__0_0.distcp"), "torn"),
        (_without(".metadata"), "torn"),
        (_without(".metadata", "__0_0.distcp", "training_state.json"), "not a training checkpoint"),
        (_truncate("__0_0.distcp", 1000), "torn"),
        (_truncate("training_state.json", 40), "torn"),
        (_replaced("__0_0.distcp", b"x" * 5000), "torn"),
        (_replaced(".metadata", b"junk"), "unreadable metadata"),
        (_replaced(".metadata", pickle.dumps(_Trap())), "does not belong into a checkpoint"),
        (_other_model, "was trained on accounts/fireworks/models/other"),
        (_format, "has format 99"),
    ],
)
def test_a_folder_that_is_not_whole_changes_nothing(
    start: Start, tmp_path: Path, damage: Callable[[Path], None], reason: str
) -> None:
    trainer = start("dense", 4)
    _run(trainer, 0, 1)
    folder = _saved(trainer, tmp_path / "step-1")
    damage(folder)
    _run(trainer, 1, 1)
    trainer.forward_backward("m", batch())
    before = weights(trainer), _moments(trainer), gradients(trainer)
    with pytest.raises(BackendError, match=reason) as error:
        trainer.load_state("m", folder, optimizer=True)
    assert error.value.category == "user"
    assert _Trap.sprung == 0
    assert all(
        same(*pair) for pair in zip(before, (weights(trainer), _moments(trainer), gradients(trainer)), strict=True)
    )


@pytest.mark.parametrize(
    ("saved", "loading", "reason"),
    [
        ({"rank": 4}, {"rank": 8}, "LoRA rank 4, this model has 8"),
        ({"rank": 4}, {"rank": 0}, "a LoRA checkpoint cannot be loaded into a full-parameter model"),
        ({"rank": 0}, {"rank": 4}, "a full-parameter checkpoint cannot be loaded into a LoRA model"),
        ({"rank": 4, "lora": {"train_mlp": False}}, {"rank": 4}, "does not fit"),
        ({"rank": 4}, {"rank": 4, "lora": {"train_mlp": False}}, "does not fit"),
        ({"kind": "untied"}, {"kind": "dense"}, "does not fit"),
        ({"kind": "dense", "projection": 8}, {"kind": "dense", "projection": 16}, "does not fit"),
    ],
)
def test_a_state_of_another_model_is_refused(
    start: Start, tmp_path: Path, saved: dict[str, Any], loading: dict[str, Any], reason: str
) -> None:
    folder = _saved(start(**saved), tmp_path / "step-0")
    trainer = start(**loading)
    before = weights(trainer)
    with pytest.raises(BackendError, match=reason):
        trainer.load_state("m", folder, optimizer=True)
    assert same(before, weights(trainer))


@pytest.mark.parametrize(("rank", "hint"), [(0, "holds weights for sampling"), (4, "use load_adapter")])
def test_weights_for_sampling_are_not_a_training_state(start: Start, tmp_path: Path, rank: int, hint: str) -> None:
    trainer = start("dense", rank)
    trainer.save_sampler("m", tmp_path, identity="s1")
    with pytest.raises(BackendError, match=hint):
        trainer.load_state("m", tmp_path, optimizer=True)


def test_a_reference_model_has_no_state(start: Start, tmp_path: Path) -> None:
    trainer = start("dense", base_only=True)
    with pytest.raises(BackendError, match="base_only"):
        trainer.save_state("m", tmp_path)
    with pytest.raises(BackendError, match="base_only"):
        trainer.load_state("m", tmp_path, optimizer=True)


def test_a_state_moves_between_trainers_and_folders(folders: dict[str, Path], start: Start, tmp_path: Path) -> None:
    trainer = start("dense", 4)
    _run(trainer, 0, 2)
    moved = tmp_path / "elsewhere"
    shutil.move(_saved(trainer, tmp_path / "step-2"), moved)
    other = TorchTrainer(lambda base: folders["dense"], lora_rank=16)
    other.create_model(ModelSpec("m", BaseModel("accounts/fireworks/models/tiny"), LoraSpec(4, seed=11)))
    other.load_state("m", moved, optimizer=True)
    assert same(weights(trainer), weights(other))


@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_a_checkpoint_brings_its_alpha_along(start: Start, tmp_path: Path, kind: str) -> None:
    trained = start(kind, 4, lora={"alpha": 64.0})
    trained.forward_backward("m", batch())
    trained.optim_step("m", ADAM, None)
    _saved(trained, tmp_path / "step-1")
    resumed = start(kind, 4)
    resumed.load_state("m", tmp_path / "step-1", optimizer=True)
    for trainer in (trained, resumed):
        trainer.forward_backward("m", batch(seed=1))
        trainer.optim_step("m", ADAM, None)
    assert same(weights(trained), weights(resumed))
    assert trained.forward("m", batch(seed=2)) == resumed.forward("m", batch(seed=2))
    for name, trainer in (("first", trained), ("second", resumed)):
        (tmp_path / name).mkdir()
        trainer.save_sampler("m", tmp_path / name, identity=name).acknowledged()
    first, second = ((tmp_path / name / "adapter_config.json").read_text() for name in ("first", "second"))
    assert first == second
    assert json.loads(first)["lora_alpha"] == 64
