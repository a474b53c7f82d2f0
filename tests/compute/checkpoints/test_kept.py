"""Checkpoints that an earlier version wrote, kept in `fixtures/blobs`: read with what they held, or refused if torn."""

import importlib.util
import json
import shutil
from pathlib import Path
from types import ModuleType

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch.distributed.checkpoint.filesystem import FileSystemReader
from transformers import AutoModelForCausalLM

from emulator.backend import BackendError, BaseModel
from emulator.core.kinds import CAPABILITIES, CheckpointKind, detect
from ftsim.compute.backend import TorchBackend
from ftsim.compute.quiet import quiet
from ftsim.compute.trainer.trainer import TorchTrainer
from tests.compute.trainer.conftest import one_thread

__all__ = ["one_thread"]
BLOBS = Path(__file__).parents[3] / "fixtures" / "blobs"
STATES = [kind for kind, capability in CAPABILITIES.items() if capability.resumable]


def _maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_blobs", BLOBS / "make.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make = _maker()


def opened(kind: CheckpointKind) -> TorchTrainer:
    trainer: TorchTrainer = make.opened(BLOBS / "base", make.RANK if kind is CheckpointKind.TRAINING_LORA else 0)
    return trainer


@pytest.mark.parametrize("kind", STATES)
def test_a_kept_state_goes_on_with_the_same_losses(kind: CheckpointKind) -> None:
    facts = json.loads((BLOBS / "facts.json").read_text())[kind]
    trainer = opened(kind)
    trainer.load_state("m", make.place(BLOBS, kind, "whole"), optimizer=True)
    live = trainer._model("m")
    assert live.step == facts["step"]
    assert make.step(trainer, 2) == pytest.approx(facts["loss_of_the_next_step"], rel=1e-5)
    after = make.step(trainer, 3)
    assert after == pytest.approx(facts["loss_after_it"], rel=1e-5)
    reset = opened(kind)
    reset.load_state("m", make.place(BLOBS, kind, "whole"), optimizer=False)
    make.step(reset, 2)
    assert make.step(reset, 3) != pytest.approx(facts["loss_after_it"], rel=1e-5), "the moments decide nothing here"


@pytest.mark.parametrize("kind", STATES)
def test_a_torn_state_is_refused_and_changes_nothing(kind: CheckpointKind) -> None:
    trainer = opened(kind)
    before = {name: value.clone() for name, value in trainer._model("m").trained.items()}
    with pytest.raises(BackendError):
        trainer.load_state("m", make.place(BLOBS, kind, "torn"), optimizer=True)
    assert all(torch.equal(value, before[name]) for name, value in trainer._model("m").trained.items())


@pytest.mark.parametrize("kind", list(CheckpointKind))
def test_a_kind_is_told_from_its_files_and_none_from_torn_ones(kind: CheckpointKind) -> None:
    assert detect(make.place(BLOBS, kind, "whole")) is kind
    assert detect(make.place(BLOBS, kind, "torn")) is None


def test_kept_weights_are_served_and_a_delta_lies_on_its_base(tmp_path: Path) -> None:
    backend = TorchBackend()
    replica = backend.open_replica(BaseModel("accounts/fireworks/models/blobs", BLOBS / "base"), max_context_length=64)
    try:
        prints = [replica.fingerprint()]
        replica.load_base(make.place(BLOBS, CheckpointKind.INFERENCE_BASE, "whole"), "base")
        prints.append(replica.fingerprint())
        replica.apply_delta(make.place(BLOBS, CheckpointKind.INFERENCE_ARC_V2, "whole"), "delta")
        prints.append(replica.fingerprint())
        for kind in (CheckpointKind.INFERENCE_BASE, CheckpointKind.INFERENCE_LORA, CheckpointKind.INFERENCE_ARC_V2):
            torn = make.place(BLOBS, kind, "torn")
            load = {
                CheckpointKind.INFERENCE_LORA: replica.load_adapter,
                CheckpointKind.INFERENCE_ARC_V2: replica.apply_delta,
            }.get(kind, replica.load_base)
            with pytest.raises(BackendError):
                load(torn, "torn")
            assert replica.fingerprint() == prints[-1], f"a torn {kind} moved what is served"
        replica.load_adapter(make.place(BLOBS, CheckpointKind.INFERENCE_LORA, "whole"), "adapter")
        prints.append(replica.fingerprint())
        assert len(set(prints)) == len(prints)
    finally:
        replica.close()


def test_the_libraries_whose_formats_these_are_open_them(tmp_path: Path) -> None:
    """transformers, peft and torch's own reader, on copies: none of them needs ftsim for what was kept."""
    kept = {kind: shutil.copytree(make.place(BLOBS, kind, "whole"), tmp_path / kind) for kind in CheckpointKind}
    with quiet():
        served = AutoModelForCausalLM.from_pretrained(kept[CheckpointKind.INFERENCE_BASE])
        base = AutoModelForCausalLM.from_pretrained(BLOBS / "base")
        tuned = PeftModel.from_pretrained(base, kept[CheckpointKind.INFERENCE_LORA])
    stored = load_file(kept[CheckpointKind.INFERENCE_BASE] / "model.safetensors")
    state = served.state_dict()
    assert all(torch.equal(state[name].to(value.dtype), value) for name, value in stored.items())
    adapter = load_file(kept[CheckpointKind.INFERENCE_LORA] / "adapter_model.safetensors")
    assert any(value.abs().sum() > 0 for name, value in adapter.items() if "lora_B" in name)
    assert len([name for name, _ in tuned.named_parameters() if "lora_" in name]) == len(adapter)
    for kind in STATES:
        assert FileSystemReader(kept[kind]).read_metadata().state_dict_metadata
