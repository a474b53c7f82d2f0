"""The backend the emulator is given: lazy, honest about folders, and typed by its protocol."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from emulator.backend import Backend, BackendError, BaseModel, LoraSpec, ModelSpec
from ftsim.compute.backend import TorchBackend
from ftsim.compute.models import catalogue as models
from tests.compute.trainer.conftest import ADAM, Start, batch

TINY = "accounts/fireworks/models/tiny"


def test_importing_the_backend_imports_no_torch() -> None:
    program = (
        "import sys, ftsim.compute.backend; ftsim.compute.backend.TorchBackend();"
        "print([name for name in ('torch', 'transformers', 'peft') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_backend_is_ready_once_it_is_warm() -> None:
    backend: Backend = TorchBackend()
    assert not backend.ready()
    backend.warm()
    assert backend.ready()


def test_a_catalogue_model_trains(tmp_path: Path) -> None:
    backend = TorchBackend(tmp_path, device="cpu")
    base = BaseModel("accounts/fireworks/models/qwen3-8b")
    assert backend.knows(base.name)
    described = backend.describe(backend.folder(base))
    assert (described.model_type, described.moe, described.lora_rank) == ("qwen3", False, 0)
    assert described.parameter_count > 10_000
    trainer = backend.open_trainer(base, lora_rank=4, max_context_length=64)
    trainer.create_model(ModelSpec("m", base, LoraSpec(4)))
    assert trainer.info("m").tokenizer_id == "Qwen/Qwen3-8B"
    small = {"data": [one for one in batch(lengths=(4, 6))["data"]], "loss_fn": "cross_entropy"}
    trainer.forward_backward("m", small)
    assert trainer.optim_step("m", ADAM, None)["grad_norm"] > 0
    with pytest.raises(BackendError, match="context of 64"):
        trainer.forward("m", batch(lengths=(65,)))


@pytest.mark.parametrize("name", {models.facts(name).architecture: name for name in models.names()}.values())
def test_every_architecture_of_the_catalogue_trains_saves_and_opens(tmp_path: Path, name: str) -> None:
    backend, base = TorchBackend(tmp_path / "cache", device="cpu"), BaseModel(name)
    for rank, saves in ((0, ("base",)), (4, ("base", "merged_base"))):
        trainer = backend.open_trainer(base, lora_rank=rank, max_context_length=64)
        trainer.create_model(ModelSpec("m", base, LoraSpec(rank) if rank else None))
        before = trainer.forward_backward("m", batch())["metrics"]["loss:sum"]
        assert trainer.optim_step("m", ADAM, "num_loss_tokens")["grad_norm"] > 0
        assert trainer.forward("m", batch())["metrics"]["loss:sum"] < before
        for save in saves:
            folder = tmp_path / f"{save}-{rank}"
            folder.mkdir()
            trainer.save_sampler("m", folder, identity=save, checkpoint_type=save)  # type: ignore[arg-type]
            described = backend.describe(folder, base)
            assert described.lora_rank == (rank if save == "base" else 0)
            assert described.moe == models.facts(name).moe


def test_what_the_catalogue_lacks_needs_a_folder(tmp_path: Path, folders: dict[str, Path]) -> None:
    backend = TorchBackend(tmp_path)
    assert not backend.knows(TINY)
    with pytest.raises(BackendError):
        backend.folder(BaseModel(TINY))
    assert backend.folder(BaseModel(TINY, folders["dense"])) == folders["dense"]
    with pytest.raises(BackendError, match="not a base model"):
        backend.open_trainer(BaseModel(TINY, tmp_path), lora_rank=0, max_context_length=64)


@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_every_promotable_blob_is_described_from_its_files(
    start: Start, folders: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    backend, base = TorchBackend(tmp_path), BaseModel(TINY, folders[kind])
    for rank in (0, 4):
        trainer = start(kind, rank)
        folder = tmp_path / f"rank-{rank}"
        folder.mkdir()
        trainer.save_sampler("m", folder, identity="s")
        described = backend.describe(folder, base)
        assert described.lora_rank == rank
        assert described.context_length == 256
        assert described.moe == (kind == "moe")
        held = trainer._model("m")
        assert described.parameter_count == sum(value.numel() for value in held.trained.values())
    assert "q_proj" in described.target_modules
    assert ("experts.down_proj" in described.target_modules) == (kind == "moe")


def _saved(start: Start, folder: Path, rank: int = 0, **how: Any) -> Path:
    trainer = start("dense", rank)
    folder.mkdir()
    trainer.save_sampler("m", folder, identity="s", **how)
    return folder


def test_a_blob_that_does_not_open_is_refused(start: Start, folders: dict[str, Path], tmp_path: Path) -> None:
    backend = TorchBackend(tmp_path)
    full, adapter = _saved(start, tmp_path / "full"), _saved(start, tmp_path / "adapter", 4)
    with pytest.raises(BackendError, match="say which base model"):
        backend.describe(adapter)
    with pytest.raises(BackendError, match="was trained on accounts"):
        backend.describe(adapter, BaseModel("accounts/fireworks/models/other", folders["dense"]))
    with pytest.raises(BackendError, match="neither a Hugging Face folder nor"):
        backend.describe(tmp_path)
    weights = (full / "model.safetensors").read_bytes()
    (full / "model.safetensors").write_bytes(weights[:-4])
    with pytest.raises(BackendError, match="not whole"):
        backend.describe(full)
    (full / "model.safetensors").unlink()
    with pytest.raises(BackendError, match="does not open"):
        backend.describe(full)
    (full / "model.safetensors").write_bytes(weights)
    config = (full / "config.json").read_text()
    for edit in (config.replace('"hidden_size": 64', '"hidden_size": 32'), config.replace('"qwen3"', '"nothing"'), "{"):
        (full / "config.json").write_text(edit)
        with pytest.raises(BackendError):
            backend.describe(full)


def test_a_delta_is_not_a_model(start: Start, tmp_path: Path) -> None:
    trainer = start("dense")
    for name, how in (("base", "base"), ("delta", "delta")):
        (tmp_path / name).mkdir()
        saved = trainer.save_sampler("m", tmp_path / name, identity=name, checkpoint_type=how)  # type: ignore[arg-type]
        saved.acknowledged()
    with pytest.raises(BackendError, match="is a delta, not a model"):
        TorchBackend(tmp_path).describe(tmp_path / "delta")


def test_device_and_dtype_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTSIM_DTYPE", "bfloat16")
    monkeypatch.setenv("FTSIM_DEVICE", "cpu")
    backend = TorchBackend()
    assert backend.computes("accounts/fireworks/models/qwen3-8b") == "bfloat16"
    assert backend.device() == "cpu"
    monkeypatch.setenv("FTSIM_DTYPE", "int8")
    with pytest.raises(ValueError, match="expected one of float32, bfloat16"):
        TorchBackend()
    if not torch.cuda.is_available():
        with pytest.raises(BackendError, match="no CUDA device"):
            TorchBackend(device="cuda", dtype="float32").device()
