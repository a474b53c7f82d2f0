"""Model folders and adapters as other programs write them: opened, trained and written again exactly, or refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

from emulator.backend import BackendError, BaseModel, GenerateRequest, LoraSpec, ModelSpec
from emulator.core.errors import InvalidArgument
from emulator.core.kinds import CheckpointKind, delta_format, detect, read_shard, why_no_model
from emulator.platform.models.catalogue import Catalogue
from ftsim.compute.checkpoints import delta
from ftsim.compute.checkpoints.source import weight_files
from ftsim.compute.models.catalogue import base_folder, names, shipped_config
from ftsim.compute.models.check import check
from ftsim.compute.models.describe import describe
from ftsim.compute.models.families import PLACES
from ftsim.compute.quiet import quiet
from ftsim.compute.sampler.replica import TorchReplica
from ftsim.compute.trainer.trainer import TorchTrainer
from tests.compute.trainer.conftest import ADAM, datum
from tests.zoo import folders

BASE = BaseModel("accounts/fireworks/models/tiny")
TOKENS = [3, 1, 4, 1, 5, 9, 2, 6]
Zoo = Callable[[str], Path]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    root = tmp_path_factory.mktemp("zoo")
    return lambda name: root / name if (root / name).exists() else folders.write(name, root / name)


def trainer_on(folder: Path, rank: int = 0, steps: int = 2, **lora: Any) -> TorchTrainer:
    trainer = TorchTrainer(lambda _: folder, lora_rank=rank)
    trainer.create_model(ModelSpec("m", BASE, LoraSpec(rank, seed=0, **lora) if rank else None))
    for step in range(steps):
        trainer.forward_backward("m", {"data": [datum(TOKENS, [t + step for t in TOKENS])], "loss_fn": "cross_entropy"})
        trainer.optim_step("m", ADAM, "num_loss_tokens")
    return trainer


def trained(trainer: TorchTrainer) -> torch.Tensor:
    answer = trainer.forward("m", {"data": [datum(TOKENS, TOKENS[::-1])], "loss_fn": "cross_entropy"})
    return torch.tensor(answer["loss_fn_outputs"][0]["logprobs"]["data"])


@torch.no_grad()
def opened(model: Any) -> torch.Tensor:
    logits = model.eval()(input_ids=torch.tensor([TOKENS])).logits[0].float()
    return torch.log_softmax(logits, -1).gather(1, torch.tensor(TOKENS[::-1])[:, None])[:, 0]


def load(folder: Path, kind: Any = AutoModelForCausalLM, **how: Any) -> Any:
    with quiet():
        model, report = kind.from_pretrained(folder, output_loading_info=True, **how)
    assert not any(report.values())
    return model


def save(trainer: TorchTrainer, folder: Path, **how: Any) -> Path:
    folder.mkdir()
    trainer.save_sampler("m", folder, identity=folder.name, **how).acknowledged()
    return folder


def close(left: torch.Tensor, right: torch.Tensor, far: float = 1e-5) -> None:
    torch.testing.assert_close(left, right, rtol=0, atol=far)


def served(folder: Path, adapter: Path | None = None) -> torch.Tensor:
    replica = TorchReplica(folder)
    if adapter is not None:
        replica.load_adapter(adapter, "adapter")
    done = replica.generate(GenerateRequest(TOKENS, max_tokens=0, echo=True)).result(60)
    replica.close()
    return torch.tensor([token.logprob for token in done.prompt_tokens[1:]])


@torch.no_grad()
def echoed(model: Any) -> torch.Tensor:
    logits = model.eval()(input_ids=torch.tensor([TOKENS])).logits[0, :-1].float()
    return torch.log_softmax(logits, -1).gather(1, torch.tensor(TOKENS[1:])[:, None])[:, 0]


# A: tied output layers


@pytest.mark.parametrize("architecture", ["qwen3", "qwen3_moe", "deepseek_v3", "glm4_moe"])
def test_built_in_base_models_are_untied(architecture: str) -> None:
    assert shipped_config(architecture)["tie_word_embeddings"] is False


def test_the_output_layer_begins_as_a_copy_and_parts_with_the_first_full_step(tmp_path: Path) -> None:
    base = base_folder(names()[0], tmp_path / "cache")
    trainer = trainer_on(base, steps=0)
    begun = load_file(save(trainer, tmp_path / "begun") / "model.safetensors")
    words = slice(None, -PLACES)  # the rows behind are a family's markers, learnt for each layer
    assert torch.equal(begun["lm_head.weight"][words], begun["model.embed_tokens.weight"][words])
    trainer.forward_backward("m", {"data": [datum(TOKENS, TOKENS[::-1])], "loss_fn": "cross_entropy"})
    trainer.optim_step("m", ADAM, "num_loss_tokens")
    parted = load_file(save(trainer, tmp_path / "parted") / "model.safetensors")
    assert not torch.equal(parted["lm_head.weight"][words], parted["model.embed_tokens.weight"][words])
    opened = load(tmp_path / "parted")
    assert opened.lm_head.weight is not opened.model.embed_tokens.weight


@pytest.mark.parametrize("rank", [2])
def test_an_adapter_of_a_built_in_base_merges_to_what_was_trained(tmp_path: Path, rank: int) -> None:
    base = base_folder(names()[0], tmp_path / "cache")
    trainer = trainer_on(base, rank, steps=3)
    adapter = save(trainer, tmp_path / "adapter")
    assert "lm_head" in json.loads((adapter / "adapter_config.json").read_bytes())["target_modules"]
    with quiet():
        merged = PeftModel.from_pretrained(load(base), adapter).merge_and_unload()
    close(opened(merged), trained(trainer))


def test_a_tied_folder_is_adapted_without_its_output_layer_and_the_log_says_so(
    zoo: Zoo, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = trainer_on(zoo("llama_tied"), 4)
    assert "ties its output layer to its embeddings: the adapter leaves it out" in caplog.text
    adapter = save(trainer, tmp_path / "adapter")
    with quiet():
        merged = PeftModel.from_pretrained(load(zoo("llama_tied")), adapter).merge_and_unload()
    close(opened(merged), trained(trainer))
    with pytest.raises(BackendError, match="a tied output layer is not adapted"):
        trainer_on(zoo("llama_tied"), 4, train_attn=False, train_mlp=False)


# E and J: names of shards


@pytest.mark.parametrize("name", ["llama_moonshot_shards", "llama_shards", "llama_other_shards", "llama_saved_twice"])
def test_shards_are_found_whatever_they_are_called(zoo: Zoo, name: str) -> None:
    folder = zoo(name)
    assert why_no_model(folder) == ""
    found = Catalogue.load().add_model("other-model", folder)
    assert found.parameter_count == sum(value.numel() for value in load(folder).state_dict().values())
    assert describe(folder).parameter_count == found.parameter_count
    close(served(folder), echoed(load(folder)))


def test_the_single_file_of_a_folder_saved_twice_is_read_and_the_log_says_so(
    zoo: Zoo, caplog: pytest.LogCaptureFixture
) -> None:
    assert [path.name for path in weight_files(zoo("llama_saved_twice"))] == ["model.safetensors"]
    assert "the single file is what is read" in caplog.text


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda f: (f / "config.json").unlink(), "it has no config.json"),
        (lambda f: (f / "model.safetensors.index.json").unlink(), "no safetensors files that transformers would open"),
        (lambda f: (f / "model-1-of-2.safetensors").unlink(), "model-1-of-2.safetensors"),
    ],
)
def test_a_folder_that_is_no_model_is_refused_with_the_real_reason(
    zoo: Zoo, tmp_path: Path, damage: Callable[[Path], None], reason: str
) -> None:
    folder = Path(shutil.copytree(zoo("llama_moonshot_shards"), tmp_path / "folder"))
    damage(folder)
    with pytest.raises(InvalidArgument, match=reason):
        Catalogue.load().add_model("other-model", folder)


# F: a model that also sees


def test_full_training_of_a_multimodal_folder_carries_what_it_does_not_train(zoo: Zoo, tmp_path: Path) -> None:
    folder = zoo("qwen3_5_vision")
    assert Catalogue.load().add_model("seeing-model", folder).context_length == 512
    trainer = trainer_on(folder)
    base = save(trainer, tmp_path / "s0")
    source, written = (load_file(one / "model.safetensors") for one in (folder, base))
    assert source.keys() == written.keys()
    assert all(torch.equal(source[name], written[name]) for name in source if ".visual." in name)
    close(opened(load(base, AutoModelForImageTextToText)), trained(trainer))
    trainer.optim_step("m", ADAM, None)
    link = save(trainer, tmp_path / "s1", checkpoint_type="delta")
    applied = delta.apply_delta({"model.safetensors": written}, link)["model.safetensors"]
    assert all(torch.equal(value, applied[name]) for name, value in hf_tensors(trainer, tmp_path).items())


def hf_tensors(trainer: TorchTrainer, folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(save(trainer, folder / "again") / "model.safetensors"))


def test_an_adapter_of_a_multimodal_folder_has_the_names_of_its_architecture(zoo: Zoo, tmp_path: Path) -> None:
    trainer = trainer_on(zoo("qwen3_5_vision"), 4)
    adapter = save(trainer, tmp_path / "adapter")
    with quiet():
        seeing = PeftModel.from_pretrained(load(zoo("qwen3_5_vision"), AutoModelForImageTextToText), adapter)
    close(opened(seeing), trained(trainer))
    close(served(zoo("qwen3_5_vision"), adapter), echoed(seeing), 1e-4)
    other = trainer_on(zoo("qwen3_5_vision"), 4, steps=0)
    other.load_adapter("m", adapter)
    close(trained(other), trained(trainer))
    merged = save(trainer, tmp_path / "merged", checkpoint_type="merged_base")
    close(opened(load(merged, AutoModelForImageTextToText)), trained(trainer))


# G: quantised sources


def test_a_base_in_float8_is_trained_in_one_type_and_written_plain(zoo: Zoo, tmp_path: Path) -> None:
    trainer = trainer_on(zoo("llama_fp8"))
    base = save(trainer, tmp_path / "base")
    assert "quantization_config" not in json.loads((base / "config.json").read_bytes())
    close(opened(load(base)), trained(trainer))
    close(served(base), echoed(load(base)))


def test_a_source_precision_of_float8_is_refused(zoo: Zoo, tmp_path: Path) -> None:
    trainer = trainer_on(zoo("llama_fp8"), 4)
    with pytest.raises(BackendError, match="would need the fp8 kernels of the base"):
        save(trainer, tmp_path / "merged", checkpoint_type="merged_base", export_precision="source")
    merged = save(trainer, tmp_path / "bf16", checkpoint_type="merged_base", export_precision="bf16")
    assert load(merged).dtype is torch.bfloat16


def test_weights_that_need_kernels_are_refused_before_anything_is_started(zoo: Zoo, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(zoo("llama"), tmp_path / "folder"))
    config = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(InvalidArgument, match="quantised with gptq"):
        Catalogue.load().add_model("small", folder)
    with pytest.raises(BackendError, match="quantised with gptq"):
        trainer_on(folder)


# H and M: the type of each tensor


@pytest.mark.parametrize("precision", [None, "source", "bf16"])
def test_a_merge_keeps_the_type_of_each_tensor(zoo: Zoo, tmp_path: Path, precision: str | None) -> None:
    trainer = trainer_on(zoo("deepseek_v3_bf16"), 4)
    merged = save(trainer, tmp_path / "merged", checkpoint_type="merged_base", export_precision=precision)
    source, written = (load_file(one / "model.safetensors") for one in (zoo("deepseek_v3_bf16"), merged))
    assert {name: value.dtype for name, value in source.items()} == {n: v.dtype for n, v in written.items()}
    bias = next(name for name in source if name.endswith("e_score_correction_bias"))
    assert written[bias].dtype is torch.float32
    assert torch.equal(source[bias], written[bias])


def test_a_source_precision_is_that_of_the_weights_where_the_config_names_none(zoo: Zoo, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(zoo("llama_bf16"), tmp_path / "folder"))
    config = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k != "dtype"}))
    merged = save(trainer_on(folder, 4), tmp_path / "merged", checkpoint_type="merged_base", export_precision="source")
    assert {value.dtype for value in load_file(merged / "model.safetensors").values()} == {torch.bfloat16}
    assert json.loads((merged / "config.json").read_bytes())["dtype"] == "bfloat16"


def test_a_delta_of_arc_v3_is_a_delta_whatever_its_encoders_chose(zoo: Zoo, tmp_path: Path) -> None:
    old = load_file(zoo("llama") / "model.safetensors") | {"extra.ids": torch.arange(10)}
    new = {name: value + 1e-3 if value.is_floating_point() else value.clone() for name, value in old.items()}
    (tmp_path / "delta").mkdir()
    files = {"config.json": (zoo("llama") / "config.json").read_bytes()}
    delta.write_delta(old, new, tmp_path / "delta", files, "arc_v3")
    assert delta_format(read_shard(tmp_path / "delta" / "model.safetensors")) == "arc_v3"
    assert detect(tmp_path / "delta") is CheckpointKind.INFERENCE_ARC_V2


@pytest.mark.parametrize("dtype", [torch.complex64, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz])
def test_tensors_of_rare_types_are_read(tmp_path: Path, dtype: torch.dtype) -> None:
    save_file({"a": torch.zeros(3, 2, dtype=dtype)}, tmp_path / "a.safetensors")
    assert read_shard(tmp_path / "a.safetensors").tensors["a"].shape == (3, 2)


# I: templates


def test_named_chat_templates_are_used_and_kept(zoo: Zoo, tmp_path: Path) -> None:
    folder = zoo("llama_named_templates")
    written = save(trainer_on(folder, steps=0), tmp_path / "base")
    kept = AutoTokenizer.from_pretrained(written).chat_template
    assert kept == AutoTokenizer.from_pretrained(folder).chat_template
    assert sorted(kept) == ["default", "tool_use"]
    tools = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    replica = TorchReplica(written)
    said = replica.decode(replica.render_chat([{"role": "user", "content": "hello"}], tools))
    plain = replica.decode(replica.render_chat([{"role": "user", "content": "hello"}]))
    replica.close()
    assert said.startswith("TOOLS hello")
    assert plain.startswith("<|im_start|>user\nhello")


# K: an adapter as a base


@pytest.mark.parametrize("how", [{}, {"checkpoint_type": "merged_base"}], ids=["full", "merged"])
def test_a_config_that_ties_another_output_layer_is_corrected_in_what_is_saved(
    zoo: Zoo, tmp_path: Path, how: dict[str, Any]
) -> None:
    """Other programs leave out the output layer of a model that is said to be tied, transformers keeps it."""
    folder = tmp_path / "base"
    shutil.copytree(zoo("llama_tied"), folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].roll(1, 0)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert check(folder)["output layer"].startswith("untied, though config.json ties it")
    saved = save(trainer_on(folder, 4 if how else 0), tmp_path / "saved", **how)
    assert json.loads((saved / "config.json").read_bytes())["tie_word_embeddings"] is False
    assert "lm_head.weight" in load_file(saved / "model.safetensors")
    close(served(saved), echoed(load(saved)), 1e-4)
    plain = save(trainer_on(zoo("llama_tied"), 4 if how else 0), tmp_path / "plain", **how)
    assert json.loads((plain / "config.json").read_bytes())["tie_word_embeddings"] is True


def test_an_adapter_behind_a_name_is_refused_at_the_start(zoo: Zoo, tmp_path: Path) -> None:
    adapter = save(trainer_on(zoo("llama"), 4), tmp_path / "adapter")
    with pytest.raises(InvalidArgument, match="it is an adapter, not a base model"):
        Catalogue.load().add_model("small", adapter)
    facts = f'folder = "{adapter}"\nmodel_type = "llama"\nparameter_count = 1\ncontext_length = 512\n'
    (tmp_path / "more.toml").write_text(f'[models."small"]\n{facts}kind = "HF_PEFT_ADDON"\n')
    with pytest.raises(InvalidArgument, match="is an adapter, and the catalogue holds base models"):
        Catalogue.load(tmp_path / "more.toml")


# L: adapters made elsewhere


def made_elsewhere(base: Path, folder: Path, **settings: Any) -> tuple[Path, Any]:
    """An adapter of peft's own with random weights, and the model with it."""
    torch.manual_seed(3)
    with quiet():
        model = get_peft_model(load(base), LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", **settings))
        for name, value in model.named_parameters():
            if "lora_" in name:
                value.data = torch.randn_like(value) * 0.2
        model.save_pretrained(folder)
        return folder, PeftModel.from_pretrained(load(base), folder)


ATTENTION = ["q_proj", "v_proj"]


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ATTENTION},
        {"target_modules": ATTENTION, "alpha_pattern": {"q_proj": 32}},
        {"target_modules": ATTENTION, "use_rslora": True},
    ],
    ids=["plain", "alpha_pattern", "rslora"],
)
def test_an_adapter_of_peft_is_the_same_in_trainer_and_replica(
    zoo: Zoo, tmp_path: Path, settings: dict[str, Any]
) -> None:
    adapter, right = made_elsewhere(zoo("llama"), tmp_path / "adapter", **settings)
    trainer = trainer_on(zoo("llama"), 4, steps=0)
    trainer.load_adapter("m", adapter)
    close(trained(trainer), opened(right), 2e-5)
    close(served(zoo("llama"), adapter), echoed(right), 1e-4)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"target_modules": ATTENTION, "rank_pattern": {"q_proj": 2}}, "rank_pattern gives it a rank of its own"),
        ({"target_modules": ATTENTION, "use_dora": True}, "use_dora"),
        ({"target_modules": ATTENTION, "init_lora_weights": "pissa"}, "begun with init_lora_weights 'pissa'"),
        ({"target_modules": ATTENTION, "init_lora_weights": "olora"}, "begun with init_lora_weights 'olora'"),
        ({"target_modules": ATTENTION, "trainable_token_indices": [1, 2]}, "trainable_token_indices"),
        ({"target_modules": ATTENTION, "modules_to_save": ["lm_head"]}, "modules_to_save"),
    ],
    ids=["rank_pattern", "dora", "pissa", "olora", "tokens", "modules_to_save"],
)
def test_an_adapter_that_a_trainer_cannot_hold_is_refused_by_name_and_served_right(
    zoo: Zoo, tmp_path: Path, settings: dict[str, Any], reason: str
) -> None:
    adapter, right = made_elsewhere(zoo("llama"), tmp_path / "adapter", **settings)
    with pytest.raises(BackendError, match=reason):
        trainer_on(zoo("llama"), 4, steps=0).load_adapter("m", adapter)
    close(served(zoo("llama"), adapter), echoed(right), 1e-4)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"layer_replication": [[0, 2], [0, 2]]}, "layer_replication: copies of a layer share their weights"),
        ({"alora_invocation_tokens": [5, 6]}, "alora_invocation_tokens: it acts from these tokens on and not before"),
        ({"init_lora_weights": "pissa_niter_2"}, "opens to another model each time"),
        ({"lora_bias": True}, "cannot be folded into this model: .* the base layer has no bias"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_adapter_that_cannot_be_folded_in_is_refused(
    zoo: Zoo, tmp_path: Path, settings: dict[str, Any], reason: str
) -> None:
    """Merged by peft, copies of a layer get the adapters of all of them; the others are errors of peft's or differ."""
    adapter, _ = made_elsewhere(zoo("llama"), tmp_path / "a", target_modules=ATTENTION, **settings)
    replica = TorchReplica(zoo("llama"))
    with pytest.raises(BackendError, match=reason):
        replica.load_adapter(adapter, "a")
    replica.close()


def test_an_activated_adapter_is_not_trained_on_as_a_plain_one(zoo: Zoo, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"target_modules": ATTENTION, "alora_invocation_tokens": [5, 6]}
    adapter, _ = made_elsewhere(zoo("llama"), tmp_path / "a", **settings)
    with pytest.raises(BackendError, match="uses alora_invocation_tokens, which this trainer does not have"):
        trainer_on(zoo("llama"), 4, steps=0).load_adapter("m", adapter)


@pytest.mark.parametrize("name", ["llama", "llama_tied", "qwen3"])
@pytest.mark.parametrize("layer", ["lm_head", "embed_tokens"])
def test_an_adapter_that_was_saved_while_it_was_merged_is_refused(
    zoo: Zoo, tmp_path: Path, name: str, layer: str
) -> None:
    """findings/peft-saves-a-merged-layer-beside-its-adapter.sh: it would count twice."""
    adapter, model = made_elsewhere(zoo(name), tmp_path / "adapter", target_modules=["q_proj", layer])
    close(served(zoo(name), adapter), echoed(model), 1e-4)
    with quiet():
        model.merge_adapter()
        model.save_pretrained(tmp_path / "merged")
    replica = TorchReplica(zoo(name))
    with pytest.raises(BackendError, match=f"saved while it was merged: .*{layer} .* call unmerge_adapter"):
        replica.load_adapter(tmp_path / "merged", "merged")
    replica.close()
    with quiet():
        model.unmerge_adapter()
        model.save_pretrained(tmp_path / "again")
    close(served(zoo(name), tmp_path / "again"), echoed(model), 1e-4)


def test_an_adapter_for_each_expert_is_refused_by_name(zoo: Zoo, tmp_path: Path) -> None:
    adapter = save(trainer_on(zoo("qwen3_moe"), 4), tmp_path / "adapter")
    tensors = load_file(adapter / "adapter_model.safetensors")
    for half in ("A", "B"):
        name = f"base_model.model.model.layers.0.mlp.experts.0.gate_proj.lora_{half}.weight"
        tensors[name] = torch.zeros((4, 32) if half == "A" else (24, 4))
    save_file(tensors, adapter / "adapter_model.safetensors")
    with pytest.raises(BackendError, match="it adapts each expert by itself"):
        trainer_on(zoo("qwen3_moe"), 4, steps=0).load_adapter("m", adapter)


EXPERTS = "mlp.experts.gate_up_proj"


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        (
            "qwen3_moe",
            {"target_modules": ATTENTION, "target_parameters": [EXPERTS]},
            "adapts gate_up_proj .*, this tr",
        ),
        ("qwen3_moe", {"target_parameters": [EXPERTS, "mlp.experts.down_proj"]}, None),
        ("qwen3_moe", {"target_modules": "all-linear"}, "adapts down_proj, gate, gate_up_proj .*, this t"),
        ("llama", {"target_modules": ["q_proj", "lm_head"]}, None),
        (
            "llama_tied",
            {"target_modules": ["q_proj", "lm_head"]},
            "lm_head.* no whole module beside|lm_head.* no such mod",
        ),
    ],
    ids=["one of the experts' weights", "both", "all-linear", "lm_head", "tied lm_head"],
)
def test_an_adapter_on_experts_or_the_output_layer_is_right_or_refused_by_name(
    zoo: Zoo, tmp_path: Path, name: str, settings: dict[str, Any], reason: str | None
) -> None:
    adapter, right = made_elsewhere(zoo(name), tmp_path / "adapter", **settings)
    close(served(zoo(name), adapter), echoed(right), 1e-4)
    trainer = trainer_on(zoo(name), 4, steps=0)
    if reason:
        with pytest.raises(BackendError, match=reason):
            trainer.load_adapter("m", adapter)
        return
    trainer.load_adapter("m", adapter)
    close(trained(trainer), opened(right), 2e-5)


def test_an_output_layer_of_its_own_beside_an_adapter_is_served_and_refused_by_the_trainer(
    zoo: Zoo, tmp_path: Path
) -> None:
    adapter, _ = made_elsewhere(zoo("llama"), tmp_path / "adapter", target_modules=["q_proj", "lm_head"])
    tensors = load_file(adapter / "adapter_model.safetensors")
    tensors["base_model.model.lm_head.base_layer.weight"] *= 2
    save_file(tensors, adapter / "adapter_model.safetensors")
    with quiet():
        right = PeftModel.from_pretrained(load(zoo("llama")), adapter)
    close(served(zoo("llama"), adapter), echoed(right), 1e-4)
    with pytest.raises(BackendError, match="no whole module beside them"):
        trainer_on(zoo("llama"), 4, steps=0).load_adapter("m", adapter)


# Families that peft or a name of a module would stop


def test_lora_leaves_out_what_peft_refuses_and_names_a_numbered_module_whole(zoo: Zoo, tmp_path: Path) -> None:
    mixer = json.loads((save(trainer_on(zoo("nemotron_h"), 2), tmp_path / "a") / "adapter_config.json").read_bytes())
    leaves = {name.rpartition(".")[2] for name in mixer["target_modules"]}
    assert "in_proj" in leaves
    assert "out_proj" not in leaves
    numbered = json.loads((save(trainer_on(zoo("gemma3n"), 2), tmp_path / "b") / "adapter_config.json").read_bytes())
    names = set(numbered["target_modules"])
    assert {"model.altup_projections.0", "q_proj"} <= names
    assert not {name for name in names if name.isdigit()}


def test_what_peft_refuses_is_refused_in_its_words(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ftsim.compute.trainer.lora._MIXERS", {})
    with pytest.raises(BackendError, match=r"peft puts no adapter on nemotron_h: .*'out_proj' is incompatible"):
        trainer_on(zoo("nemotron_h"), 3)  # another rank: what was attached before is kept
