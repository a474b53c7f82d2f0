"""A save for sampling opens in transformers and peft alone, and computes what the trainer computes."""

import errno
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from emulator.backend import BackendError
from emulator.core.kinds import CheckpointKind, detect
from ftsim.compute.checkpoints import delta, sampler, tensors
from ftsim.compute.checkpoints.source import WEIGHTS, small_files
from ftsim.compute.quiet import quiet
from ftsim.compute.sampler.weights import Shards, read_shards
from ftsim.compute.trainer.trainer import TorchTrainer
from tests.compute.trainer.conftest import ADAM, Start, batch, datum, same, weights

TOKENS = [3, 1, 4, 1, 5, 9, 2, 6]


def _train(trainer: TorchTrainer, steps: int = 2, first: int = 0) -> TorchTrainer:
    for step in range(first, first + steps):
        trainer.forward_backward("m", batch(seed=step))
        trainer.optim_step("m", ADAM, "num_loss_tokens")
    return trainer


def _save(trainer: TorchTrainer, folder: Path, **how: Any) -> Path:
    folder.mkdir()
    trainer.save_sampler("m", folder, identity=folder.name, **how).acknowledged()
    return folder


def _trainer_logprobs(trainer: TorchTrainer) -> list[float]:
    answer = trainer.forward("m", {"data": [datum(TOKENS, TOKENS[::-1])], "loss_fn": "cross_entropy"})
    return answer["loss_fn_outputs"][0]["logprobs"]["data"]  # type: ignore[no-any-return]


@torch.no_grad()
def _logprobs(model: Any) -> list[float]:
    logits = model.eval()(input_ids=torch.tensor([TOKENS])).logits[0].float()
    return torch.log_softmax(logits, -1).gather(1, torch.tensor(TOKENS[::-1])[:, None])[:, 0].tolist()


def _open(folder: Path, **how: Any) -> Any:
    with quiet():
        model, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, **how)
    assert not any(report.values())
    return model


@pytest.mark.parametrize("kind", ["dense", "untied", "moe"])
def test_full_weights_open_in_transformers(start: Start, tmp_path: Path, kind: str) -> None:
    trainer = _train(start(kind))
    folder = _save(trainer, tmp_path / "base")
    assert detect(folder) is CheckpointKind.INFERENCE_BASE
    model = _open(folder)
    assert model.dtype is torch.float32
    assert _logprobs(model) == pytest.approx(_trainer_logprobs(trainer), abs=1e-5)


@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_large_weights_are_saved_in_shards_and_so_are_their_deltas(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(tensors, "LARGEST", 300_000)
    trainer = _train(start(kind))
    base = _save(trainer, tmp_path / "base")
    assert detect(base) is CheckpointKind.INFERENCE_BASE
    assert len(list(base.glob("model-*-of-*.safetensors"))) > 1
    assert _logprobs(_open(base)) == pytest.approx(_trainer_logprobs(trainer), abs=1e-5)
    _train(trainer, 1, first=5)
    difference = _save(trainer, tmp_path / "delta", checkpoint_type="delta")
    assert detect(difference) is CheckpointKind.INFERENCE_ARC_V2
    served = delta.apply_delta(read_shards(base), difference)
    whole = read_shards(_save(trainer, tmp_path / "whole"))
    assert served.keys() == whole.keys()
    assert all(same(served[name], whole[name]) for name in whole)


@pytest.mark.parametrize("checkpoint_type", ["base", "delta"])
@pytest.mark.parametrize("kind", ["dense", "untied", "moe"])
def test_an_adapter_opens_in_peft_whatever_type_was_asked(
    start: Start, folders: dict[str, Path], tmp_path: Path, kind: str, checkpoint_type: str
) -> None:
    trainer = _train(start(kind, 4))
    folder = _save(trainer, tmp_path / "adapter", checkpoint_type=checkpoint_type)
    assert detect(folder) is CheckpointKind.INFERENCE_LORA
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (4, 32.0)
    assert config["base_model_name_or_path"] == "accounts/fireworks/models/tiny"
    assert "q_proj" in config["target_modules"]
    assert ("lm_head" in config["target_modules"]) is (kind != "dense")  # whose output layer is tied
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        model = PeftModel.from_pretrained(_open(folders[kind]), folder)
    assert not [str(one.message) for one in warned if "tied" in str(one.message)]
    assert _logprobs(model) == pytest.approx(_trainer_logprobs(trainer), abs=1e-5)
    assert _logprobs(model.merge_and_unload()) == pytest.approx(_trainer_logprobs(trainer), abs=1e-5)


@pytest.mark.parametrize("kind", ["dense", "untied", "moe"])
def test_a_merged_adapter_opens_in_transformers(start: Start, tmp_path: Path, kind: str) -> None:
    trainer = _train(start(kind, 4))
    model = trainer._model("m").model
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    folder = _save(trainer, tmp_path / "merged", checkpoint_type="merged_base")
    assert detect(folder) is CheckpointKind.INFERENCE_BASE
    assert _logprobs(_open(folder)) == pytest.approx(_trainer_logprobs(trainer), abs=1e-4)
    assert same(before, dict(model.named_parameters()))


def test_a_merge_can_be_exported_in_bfloat16(start: Start, tmp_path: Path) -> None:
    trainer = _train(start("dense", 4))
    folder = _save(trainer, tmp_path / "merged", checkpoint_type="merged_base", export_precision="bf16")
    model = _open(folder)
    assert model.dtype is torch.bfloat16
    assert _logprobs(model) == pytest.approx(_trainer_logprobs(trainer), abs=0.3)


@pytest.mark.parametrize(
    ("rank", "trained", "how", "reason"),
    [
        (4, False, {"checkpoint_type": "merged_base"}, "untouched"),
        (4, True, {"checkpoint_type": "merged_base", "export_precision": "nvfp4"}, "quantisation kernels"),
        (0, True, {"checkpoint_type": "merged_base"}, "needs a LoRA model"),
        (4, True, {"export_precision": "bf16"}, "merged_base"),
        (0, True, {"checkpoint_type": "delta"}, "save checkpoint_type 'base' first"),
        (0, True, {"checkpoint_type": "full"}, "expected base, delta or merged_base"),
    ],
)
def test_a_save_without_sense_is_refused(
    start: Start, tmp_path: Path, rank: int, trained: bool, how: dict[str, Any], reason: str
) -> None:
    trainer = start("dense", rank)
    with pytest.raises(BackendError, match=reason) as error:
        _train(trainer, 1 if trained else 0).save_sampler("m", tmp_path, identity="s", **how)
    assert error.value.category == "user"
    assert not list(tmp_path.iterdir())


def test_a_model_with_a_projection_head_is_not_for_sampling(start: Start, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="projection head"):
        start("dense", projection=8).save_sampler("m", tmp_path, identity="s")


def test_an_adapter_comes_back_bit_for_bit(start: Start, tmp_path: Path) -> None:
    trainer = _train(start("moe", 4))
    folder = _save(trainer, tmp_path / "adapter")
    other = _train(start("moe", 4, seed=5), 1)
    other.load_adapter("m", folder)
    assert same(weights(trainer), weights(other))
    assert not other._model("m").optimizer.state
    assert _train(other, 0).optim_step("m", ADAM, None)["step"] == 1


def test_an_adapter_of_another_alpha_or_fewer_modules_keeps_its_function(start: Start, tmp_path: Path) -> None:
    trainer = _train(start("dense", 4, lora={"alpha": 8.0, "train_unembed": False}))
    folder = _save(trainer, tmp_path / "adapter")
    other = _train(start("dense", 4, seed=5))
    other.load_adapter("m", folder)
    assert _trainer_logprobs(other) == pytest.approx(_trainer_logprobs(trainer), abs=1e-5)


def _config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | changes))


def test_an_adapter_that_does_not_fit_changes_nothing(start: Start, tmp_path: Path) -> None:
    folder = _save(_train(start("dense", 4)), tmp_path / "adapter")
    for loading, reason in (
        ({"rank": 8}, "rank 4, this model has 8"),
        ({"rank": 0}, "needs a LoRA model"),
        ({"rank": 4, "lora": {"train_mlp": False}}, "trains no such module"),
    ):
        trainer = start("dense", **loading)
        before = weights(trainer)
        with pytest.raises(BackendError, match=reason):
            trainer.load_adapter("m", folder)
        assert same(before, weights(trainer))


def test_an_adapter_folder_is_checked_before_it_is_used(start: Start, tmp_path: Path) -> None:
    trainer = start("dense", 4)
    folder = _save(_train(start("dense", 4)), tmp_path / "adapter")
    before = weights(trainer)
    original = (folder / "adapter_model.safetensors").read_bytes()
    tensors = load_file(folder / "adapter_model.safetensors")
    _config(folder, base_model_name_or_path="accounts/fireworks/models/other")
    with pytest.raises(BackendError, match="trained on accounts/fireworks/models/other"):
        trainer.load_adapter("m", folder)
    _config(folder, base_model_name_or_path="tiny", use_dora=True)
    with pytest.raises(BackendError, match="use_dora"):
        trainer.load_adapter("m", folder)
    _config(folder, use_dora=False)
    (folder / "adapter_model.safetensors").write_bytes(original[:-10])
    with pytest.raises(BackendError, match="no readable adapter_model"):
        trainer.load_adapter("m", folder)
    for wrong, reason in (({}, "empty"), ({k: v[:1] for k, v in tensors.items()}, "has shape")):
        save_file(wrong, folder / "adapter_model.safetensors")
        with pytest.raises(BackendError, match=reason):
            trainer.load_adapter("m", folder)
    (folder / "adapter_config.json").write_text("[]")
    with pytest.raises(BackendError, match="not a LoRA adapter"):
        trainer.load_adapter("m", folder)
    with pytest.raises(BackendError, match="not an adapter"):
        trainer.load_adapter("m", tmp_path / "nowhere")
    assert same(before, weights(trainer))


def test_a_save_that_nobody_acknowledged_is_no_base_of_the_next_delta(start: Start, tmp_path: Path) -> None:
    trainer = _train(start("dense"))
    base = read_shards(_save(trainer, tmp_path / "base"))
    for name, how in (("lost-base", "base"), ("lost-delta", "delta")):
        _train(trainer, 1)
        (tmp_path / name).mkdir()
        trainer.save_sampler("m", tmp_path / name, identity=name, checkpoint_type=how)  # type: ignore[arg-type]
    _train(trainer, 1)
    (tmp_path / "next").mkdir()
    assert (
        trainer.save_sampler("m", tmp_path / "next", identity="n", checkpoint_type="delta").previous_snapshot == "base"
    )
    held = delta.apply_delta(base, tmp_path / "next")
    assert same(held[WEIGHTS], load_file(_save(trainer, tmp_path / "full") / WEIGHTS))


@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_a_chain_of_thirty_deltas_reproduces_the_weights(start: Start, tmp_path: Path, kind: str) -> None:
    trainer = _train(start(kind))
    held: Shards = read_shards(_save(trainer, tmp_path / "s0"))
    for link in range(1, 31):
        _train(trainer, 1, link)
        folder = tmp_path / f"s{link}"
        folder.mkdir()
        saved = trainer.save_sampler("m", folder, identity=folder.name, checkpoint_type="delta")
        saved.acknowledged()
        assert saved.previous_snapshot == f"s{link - 1}"
        held = delta.apply_delta(held, folder)
    assert detect(tmp_path / "s30") is CheckpointKind.INFERENCE_ARC_V2
    full = _save(trainer, tmp_path / "full")
    assert same(held[WEIGHTS], load_file(full / WEIGHTS))
    assert _logprobs(_open(full)) == pytest.approx(_trainer_logprobs(trainer), abs=1e-5)


@pytest.mark.parametrize("format", ["arc_v1", "arc_v2", "arc_v3"])
def test_every_format_gives_the_new_bytes(folders: dict[str, Path], tmp_path: Path, format: Any) -> None:
    old = load_file(folders["dense"] / WEIGHTS)
    new = {name: value + torch.randn_like(value) * 1e-3 for name, value in old.items()}
    (tmp_path / "delta").mkdir()
    delta.write_delta(old, new, tmp_path / "delta", small_files(folders["dense"]), format)
    assert same(delta.apply_delta({WEIGHTS: old}, tmp_path / "delta", format)[WEIGHTS], new)


@pytest.mark.parametrize("format", ["arc_v2", "arc_v3"])
def test_a_delta_of_something_else_leaves_nothing_half_applied(
    folders: dict[str, Path], tmp_path: Path, format: Any
) -> None:
    old = load_file(folders["dense"] / WEIGHTS)
    skipped = {name: value + 1e-3 for name, value in old.items()}
    new = {name: value + 2e-3 for name, value in old.items()}
    for name in ("delta", "empty"):
        (tmp_path / name).mkdir()
    delta.write_delta(skipped, new, tmp_path / "delta", small_files(folders["dense"]), format)
    held = {WEIGHTS: {name: value.clone() for name, value in old.items()}}
    with pytest.raises(BackendError, match="does not apply"):
        delta.apply_delta(held, tmp_path / "delta", format)
    with pytest.raises(BackendError, match="weight files are others"):
        delta.apply_delta(held, tmp_path / "empty", format)
    assert same(held[WEIGHTS], old)


def test_a_delta_between_different_shapes_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    old = load_file(folders["dense"] / WEIGHTS)
    for new in ({}, {name: value.half() for name, value in old.items()}):
        with pytest.raises(BackendError, match="no delta can be made"):
            delta.write_delta(old, new, tmp_path, {})


def test_a_delta_that_carries_code_is_not_opened(folders: dict[str, Path], tmp_path: Path) -> None:
    import pickle

    import numpy as np

    payload = b"ARC3_ENVELOPE\0" + pickle.dumps(Path("."))
    names = load_file(folders["dense"] / WEIGHTS)
    value = torch.from_numpy(np.frombuffer(payload, dtype=np.uint8).copy())
    (tmp_path / "delta").mkdir()
    save_file({name: value.clone() for name in names}, tmp_path / "delta" / WEIGHTS, dict.fromkeys(names, "1"))
    with pytest.raises(BackendError, match="does not belong into a delta"):
        delta.apply_delta({WEIGHTS: names}, tmp_path / "delta", "arc_v3")


@pytest.mark.parametrize("rank", [0, 4])
def test_a_disk_that_is_full_is_an_error_of_the_system(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: int
) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("ftsim.compute.checkpoints.tensors.save_file", full)
    with pytest.raises(OSError, match="No space left") as caught:
        _save(start("dense", rank), tmp_path / "save", checkpoint_type="base")
    assert caught.value.errno == errno.ENOSPC


def test_a_snapshot_takes_the_memory_of_the_one_before_and_no_step_changes_it(start: Start, tmp_path: Path) -> None:
    """New memory costs a virtual machine more than writing does; weights that the codec compares must stand still."""
    trainer = _train(start("dense"))
    _save(trainer, tmp_path / "one")
    places = {name: value.data_ptr() for name, value in kept(trainer).items()}
    for name, how in (("two", "delta"), ("three", "base")):
        folder = _save(_train(trainer), tmp_path / name, checkpoint_type=how)
        assert {key: value.data_ptr() for key, value in kept(trainer).items()} == places
        saved = {key: value.clone() for key, value in kept(trainer).items()}
        if how == "base":
            assert same(load_file(folder / WEIGHTS), saved)
        _train(trainer)
        assert same(kept(trainer), saved)
        assert not same(weights(trainer), saved)


def kept(trainer: TorchTrainer) -> dict[str, torch.Tensor]:
    """The tensors that the next delta is made against."""
    sampler.settle(trainer._models["m"])
    snapshot = trainer._models["m"].snapshot
    assert snapshot is not None
    return dict(snapshot.tensors)


def test_a_save_that_no_step_follows_copies_nothing(start: Start, tmp_path: Path) -> None:
    trainer = _train(start("dense"))
    _save(trainer, tmp_path / "base")
    _save(trainer, tmp_path / "again")
    assert trainer._models["m"].snapshot is None
    saved = weights(trainer)
    trainer.save_state("m", tmp_path)
    _train(trainer)
    trainer.load_state("m", tmp_path, optimizer=True)
    assert same(weights(trainer), saved)
    difference = _save(_train(trainer, 1), tmp_path / "delta", checkpoint_type="delta")
    held = delta.apply_delta(read_shards(tmp_path / "again"), difference)
    assert same(held[WEIGHTS], load_file(_save(trainer, tmp_path / "full") / WEIGHTS))
