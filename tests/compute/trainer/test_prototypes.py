"""A model that is a copy of one built before is the model that would have been built, and goes its own way."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from emulator.backend import BackendError, BaseModel, LoraSpec, ModelSpec
from ftsim.compute.backend import TorchBackend
from ftsim.compute.checkpoints import peft
from ftsim.compute.execution import Execution
from ftsim.compute.models import describe
from ftsim.compute.trainer import live
from ftsim.compute.trainer.live import LiveModel
from ftsim.compute.trainer.prototypes import Prototypes, copied, identity
from tests.compute.trainer.conftest import ADAM, BASE, Start, batch

CPU = torch.device("cpu")


def built(folder: Path, rank: int = 4, **lora: Any) -> LiveModel:
    return live.build(ModelSpec("m", BASE, LoraSpec(rank, **lora) if rank else None), folder, CPU, Execution())


def values(held: LiveModel) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in held.model.named_parameters()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("kind", ["dense", "untied", "moe"])
@pytest.mark.parametrize("rank", [0, 4])
def test_training_one_leaves_the_next_as_the_first_was(
    start: Start, folders: dict[str, Path], kind: str, rank: int
) -> None:
    before = values(built(folders[kind], rank, seed=0) if rank else built(folders[kind], 0))
    trainer = start(kind, rank)
    trained = trainer._model("m")
    trainer.forward_backward("m", batch())
    trainer.optim_step("m", ADAM, None)
    assert not same(values(trained), before)
    again = built(folders[kind], rank, seed=0) if rank else built(folders[kind], 0)
    assert same(values(again), before)
    assert not again.optimizer.state
    frozen = {n: v.data_ptr() for n, v in again.model.named_parameters() if not v.requires_grad}
    assert frozen == {n: v.data_ptr() for n, v in trained.model.named_parameters() if not v.requires_grad}
    assert bool(frozen) == bool(rank)


def test_a_copy_computes_what_the_built_model_computes(folders: dict[str, Path]) -> None:
    tokens = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])
    for kind, folder in folders.items():
        with torch.no_grad():
            held = built(folder)
            assert torch.equal(held.model(tokens).logits, copied(held.model)(tokens).logits), kind


def test_another_alpha_is_one_models_own(folders: dict[str, Path], tmp_path: Path) -> None:
    one, other = built(folders["dense"]), built(folders["dense"])
    one.take_alpha({"alpha": 8.0})
    peft.save(other, tmp_path)
    assert peft.read_config(tmp_path)["lora_alpha"] == 32
    assert {module.scaling["default"] for module in other.model.modules() if hasattr(module, "lora_alpha")} == {8.0}


def test_other_settings_and_other_files_make_another_model(folders: dict[str, Path], tmp_path: Path) -> None:
    assert not same(values(built(folders["dense"], seed=1)), values(built(folders["dense"], seed=2)))
    for path in folders["dense"].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    before = identity(tmp_path)
    assert before == identity(tmp_path)
    os.utime(tmp_path / "model.safetensors", ns=(1, 1))
    assert before != identity(tmp_path)


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def build(size: int) -> Callable[[], tuple[nn.Module, None]]:
        return lambda: (made.append(size), (nn.Linear(size, 1), None))[1]  # type: ignore[func-returns-value]

    kept = Prototypes(kept=2, largest=100)
    for size in (1, 2, 1, 3, 1, 2, 100, 100):
        kept.get(size, build(size))
    assert made == [1, 2, 3, 2, 100, 100]


def test_a_model_with_hooks_is_built_anew() -> None:
    model = nn.Linear(1, 1)
    model.register_forward_hook(lambda *_: None)
    assert Prototypes().get("hooked", lambda: (model, None))[0] is model


@pytest.mark.parametrize("kind", ["untied", "dense"])
def test_an_adapter_is_described_by_headers_as_by_its_model(
    start: Start, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    backend, base = TorchBackend(tmp_path), BaseModel(BASE.name, folders[kind])
    start(kind, 4).save_sampler("m", tmp_path, identity="s")
    with monkeypatch.context() as patch:
        patch.setattr(describe, "_plain_adapter", lambda *_: None)
        expected = backend.describe(tmp_path, base)
    monkeypatch.setattr(live, "build", lambda *_: pytest.fail("a model was built"))
    assert backend.describe(tmp_path, base) == expected


def test_headers_refuse_nothing_that_a_model_takes_and_take_nothing_that_it_refuses(
    start: Start, folders: dict[str, Path], tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    backend = TorchBackend(tmp_path)
    start("untied", 4).save_sampler("m", tmp_path, identity="s")
    tensors = load_file(tmp_path / peft.WEIGHTS)
    with pytest.raises(BackendError, match="this model expects"):
        backend.describe(tmp_path, BaseModel(BASE.name, _wider(folders["untied"], tmp_path / "wider")))
    with pytest.raises(BackendError, match="trains no such module"):  # the output layer of a tied model
        backend.describe(tmp_path, BaseModel(BASE.name, folders["dense"]))
    part = {name: value for name, value in tensors.items() if ".v_proj." in name}
    save_file(part, tmp_path / peft.WEIGHTS)
    assert backend.describe(tmp_path, BaseModel(BASE.name, folders["untied"])).parameter_count == sum(
        value.numel() for value in part.values()
    )
    save_file(
        {**tensors, "base_model.model.model.embed_tokens.lora_A.weight": torch.zeros(4, 64)}, tmp_path / peft.WEIGHTS
    )
    with pytest.raises(BackendError, match="embed_tokens"):
        backend.describe(tmp_path, BaseModel(BASE.name, folders["untied"]))
    (tmp_path / peft.WEIGHTS).write_bytes((tmp_path / peft.WEIGHTS).read_bytes()[:-4])
    with pytest.raises(BackendError, match="not whole"):
        backend.describe(tmp_path, BaseModel(BASE.name, folders["untied"]))


def _wider(folder: Path, target: Path) -> Path:
    """The same architecture with other widths."""
    import json

    from safetensors.torch import load_file, save_file

    target.mkdir()
    config = json.loads((folder / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**config, "intermediate_size": 2 * config["intermediate_size"]}))
    tensors = load_file(folder / "model.safetensors")
    for name, value in tensors.items():
        if ".mlp." in name:
            tensors[name] = value.repeat(1, 2) if "down" in name else value.repeat(2, 1)
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


def test_full_weights_of_a_model_that_was_opened_are_not_opened_again(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start("untied").save_sampler("m", tmp_path, identity="s")
    found = describe.describe(tmp_path)
    monkeypatch.setattr(describe, "open_model", lambda *_: pytest.fail("a model was opened"))
    assert describe.describe(tmp_path) == found
