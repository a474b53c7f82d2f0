"""Tiny Hugging Face folders of real architectures, made by transformers' own configs; seconds for all of them.

`python -m tests.zoo.folders DIR [NAME...]` writes them for whoever wants to look at one.
"""

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from ftsim.compute.models import tokenizer
from ftsim.compute.quiet import quiet

WINDOW = 16
_COMMON: dict[str, Any] = {
    "vocab_size": tokenizer.VOCAB_SIZE,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
    "tie_word_embeddings": False,
    "bos_token_id": None,
    "pad_token_id": None,
    "eos_token_id": tokenizer.special_id(tokenizer.IM_END),
}
_LOCAL_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
_ROUTED = {
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}
_LATENT = {
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "qk_rope_head_dim": 4,
    "head_dim": 4,
    "num_key_value_heads": 4,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
}
_DELTA_NET = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_conv_kernel_dim": 4,
    "layer_types": ["linear_attention", "full_attention"],
}
_WINDOWED = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
_MAMBA = {
    "mamba_d_state": 8,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 8,
}
_VISION = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 32}
_ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}


@dataclass(frozen=True)
class Animal:
    """One folder of the zoo: an architecture with its settings, and how its files are laid out."""

    model_type: str
    config: Mapping[str, Any] = field(default_factory=dict)
    layout: Callable[[Path], None] = lambda folder: None
    dtype: torch.dtype = torch.float32
    vision: Mapping[str, Any] | None = None


def _shards(pattern: str) -> Callable[[Path], None]:
    """Two files under names of `pattern`, with an index."""

    def split(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        names = sorted(tensors)
        weight_map: dict[str, str] = {}
        for number, part in enumerate((names[: len(names) // 2], names[len(names) // 2 :]), 1):
            file = pattern.format(number)
            save_file({name: tensors[name] for name in part}, folder / file, metadata={"format": "pt"})
            weight_map |= dict.fromkeys(part, file)
        total = sum(value.nbytes for value in tensors.values())
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return split


def _saved_twice(folder: Path) -> None:
    """One file, and beside it older shards with their index, as two saves into one folder leave them."""
    weights = (folder / "model.safetensors").read_bytes()
    tensors = {name: value * 0.5 for name, value in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    _shards("model-{:05d}-of-00002.safetensors")(folder)
    (folder / "model.safetensors").write_bytes(weights)


def _named_templates(folder: Path) -> None:
    (folder / "additional_chat_templates").mkdir()
    template = "{% for message in messages %}TOOLS {{ message.content }} {% endfor %}"
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text(template)


def _quantised(folder: Path) -> None:
    """Linear weights in float8 with one scale per block of 128 × 128, embeddings in bfloat16."""
    tensors = load_file(folder / "model.safetensors")
    made: dict[str, torch.Tensor] = {}
    for name, value in tensors.items():
        if name.endswith("_proj.weight"):
            scale = value.abs().max() / 448.0
            made[name] = (value / scale).to(torch.float8_e4m3fn)
            made[name.removesuffix(".weight") + ".weight_scale_inv"] = scale.reshape(1, 1).float()
        else:
            made[name] = value.bfloat16()
    save_file(made, folder / "model.safetensors", metadata={"format": "pt"})
    path = folder / "config.json"
    config = json.loads(path.read_bytes())
    config["quantization_config"] = {
        "quant_method": "fp8",
        "weight_block_size": [128, 128],
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
    }
    config["dtype"] = "bfloat16"
    path.write_text(json.dumps(config))


ZOO: dict[str, Animal] = {
    "llama": Animal("llama"),
    "llama_tied": Animal("llama", {"tie_word_embeddings": True}),
    "llama_moonshot_shards": Animal("llama", layout=_shards("model-{}-of-2.safetensors")),
    "llama_shards": Animal("llama", layout=_shards("model-{:05d}-of-00002.safetensors")),
    "llama_other_shards": Animal("llama", layout=_shards("model.safetensors-{:05d}-of-00002.safetensors")),
    "llama_saved_twice": Animal("llama", layout=_saved_twice),
    "llama_named_templates": Animal("llama", layout=_named_templates),
    "llama_fp8": Animal("llama", layout=_quantised),
    "llama_bf16": Animal("llama", dtype=torch.bfloat16),
    "qwen2": Animal("qwen2"),
    "qwen3": Animal("qwen3"),
    "qwen3_window": Animal("qwen3", {"use_sliding_window": True, **_WINDOWED}),
    "qwen3_moe": Animal("qwen3_moe", _EXPERTS),
    "qwen3_5": Animal("qwen3_5_text", _DELTA_NET),
    "qwen3_next": Animal("qwen3_next", {**_EXPERTS, **_DELTA_NET, "shared_expert_intermediate_size": 24}),
    "deepseek_v3": Animal("deepseek_v3", {**_ROUTED, **_LATENT}),
    "deepseek_v3_bf16": Animal("deepseek_v3", {**_ROUTED, **_LATENT}, dtype=torch.bfloat16),
    "deepseek_v3_fp8": Animal("deepseek_v3", {**_ROUTED, **_LATENT}, layout=_quantised),
    "kimi_like": Animal(
        "deepseek_v3",
        {**_ROUTED, **_LATENT, "n_routed_experts": 8, "routed_scaling_factor": 2.8},
        layout=_shards("model-{}-of-2.safetensors"),
    ),
    "glm4_moe": Animal("glm4_moe", _ROUTED),
    "gpt_oss": Animal("gpt_oss", {**_LOCAL_EXPERTS, **_WINDOWED, **_ROPE}),
    "mistral": Animal("mistral", {"sliding_window": WINDOW}),
    "mixtral": Animal("mixtral", {**_LOCAL_EXPERTS, "sliding_window": WINDOW}),
    "gemma2": Animal("gemma2", {**_WINDOWED, "final_logit_softcapping": 3.0, "query_pre_attn_scalar": 8}),
    "gemma3": Animal("gemma3_text", {**_WINDOWED, "query_pre_attn_scalar": 8}),
    "cohere2": Animal("cohere2", {**_WINDOWED, "logit_scale": 0.25}),
    "cohere": Animal("cohere", {"logit_scale": 0.25}),
    "granite": Animal("granite", {"logits_scaling": 4.0, "residual_multiplier": 0.5, "embedding_multiplier": 2.0}),
    "olmo2": Animal("olmo2"),
    "phi3": Animal("phi3", {"original_max_position_embeddings": 512}),
    "smollm3": Animal("smollm3"),
    "starcoder2": Animal("starcoder2", {"sliding_window": WINDOW}),
    "minimax": Animal(
        "minimax", {**_LOCAL_EXPERTS, "layer_types": ["linear_attention", "full_attention"], "block_size": 8}
    ),
    "llama4": Animal(
        "llama4_text",
        {
            "num_local_experts": 2,
            "num_experts_per_tok": 1,
            "attention_chunk_size": WINDOW,
            "intermediate_size_mlp": 48,
            "interleave_moe_layer_step": 2,
        },
    ),
    "deepseek_v32": Animal(
        "deepseek_v32", {**_ROUTED, **_LATENT, "index_n_heads": 32, "index_head_dim": 8, "index_topk": WINDOW}
    ),
    "gemma3n": Animal(
        "gemma3n_text",
        {
            "num_hidden_layers": 4,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "sliding_window": WINDOW,
            "intermediate_size": [48] * 4,
            "num_kv_shared_layers": 2,
            "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": tokenizer.VOCAB_SIZE,
            "laurel_rank": 4,
            "activation_sparsity_pattern": [0.0] * 4,
        },
    ),
    "gemma4": Animal(
        "gemma4_text",
        {
            **_WINDOWED,
            "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": tokenizer.VOCAB_SIZE,
            "global_head_dim": 8,
        },
    ),
    "nemotron_h": Animal(
        "nemotron_h",
        {
            "hybrid_override_pattern": "M*M-",
            "num_hidden_layers": 4,
            "ssm_state_size": 8,
            "mamba_num_heads": 8,
            "mamba_head_dim": 8,
            "n_groups": 1,
            "chunk_size": 8,
            "conv_kernel": 4,
        },
    ),
    "bamba": Animal("bamba", {**_MAMBA, "attn_layer_indices": [1]}),
    "falcon_h1": Animal("falcon_h1", {**_MAMBA, "mamba_d_ssm": 64}),
    "granite_hybrid": Animal(
        "granitemoehybrid",
        {**_LOCAL_EXPERTS, **_MAMBA, "layer_types": ["mamba", "attention"], "shared_intermediate_size": 24},
    ),
    "mamba2": Animal("mamba2", {"state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 1, "chunk_size": 8}),
    "lfm3": Animal("lfm3"),
    "qwen3_5_vision": Animal("qwen3_5", _DELTA_NET, vision=_VISION),
    "qwen3_vl": Animal(
        "qwen3_vl",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}},
        vision={**_VISION, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]},
    ),
}


def write(name: str, folder: Path) -> Path:
    """Write one folder of the zoo; equal names give equal weights."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    animal = ZOO[name]
    folder.mkdir(parents=True)
    torch.manual_seed(7)
    settings = _COMMON | dict(animal.config)
    with quiet():
        if animal.vision:
            config = AutoConfig.for_model(animal.model_type, text_config=settings, vision_config=dict(animal.vision))
            model = AutoModelForImageTextToText.from_config(config)
        else:
            config = AutoConfig.for_model(animal.model_type, **settings)
            model = AutoModelForCausalLM.from_config(config)
        _scatter(model)
        model.to(animal.dtype) if animal.dtype != torch.bfloat16 else _bfloat16(model)
        model.save_pretrained(folder)
    tokenizer.write_folder(folder, 512)
    animal.layout(folder)
    return folder


def _scatter(model: torch.nn.Module) -> None:
    """Give norms, biases and gates values that are not their neutral start, so that leaving one out shows."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.dim() < 2:
                value.add_(torch.randn_like(value) * 0.1)
            elif "lm_head" in name or "embed" in name:
                value.copy_(torch.randn_like(value) * 0.3)
        for name, buffer in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                buffer.copy_(torch.randn_like(buffer) * 0.1)


def _bfloat16(model: Any) -> None:
    """As `dtype=bfloat16` of from_pretrained: what an architecture keeps in float32 stays so."""
    values: list[tuple[str, torch.Tensor]] = [*model.named_parameters(), *model.named_buffers()]
    for name, value in values:
        if not name.endswith("e_score_correction_bias") and value.is_floating_point():
            value.data = value.data.bfloat16()


def main(arguments: list[str]) -> None:
    target = Path(arguments[0])
    for name in arguments[1:] or ZOO:
        shutil.rmtree(target / name, ignore_errors=True)
        write(name, target / name)
        print(name, sum(path.stat().st_size for path in (target / name).rglob("*") if path.is_file()))


if __name__ == "__main__":
    main(sys.argv[1:])
