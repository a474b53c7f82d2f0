"""The smallest real model that everything can be done with: one layer, hidden size 16, 128 tokens."""

import fcntl
import json
import tempfile
from pathlib import Path
from typing import Any

Config = dict[str, Any]
NAME = "accounts/fireworks/models/tiny"
CONFIG: Config = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "vocab_size": 128,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
    "dtype": "float32",
}
EXPERTS: Config = {
    **CONFIG,
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "decoder_sparse_step": 1,
    "norm_topk_prob": True,
}
_BASIC = range(126)


def tiny_model(folder: Path | None = None) -> Path:
    """A Hugging Face folder with seeded weights and a tokenizer of 128 tokens, written once; safe among processes.

    `folder` defaults to one in the system's temporary folder that later runs use again.
    """
    return _written(folder, CONFIG)


def _written(folder: Path | None, config: Config) -> Path:
    target = folder or Path(tempfile.gettempdir()) / f"ftsim-tiny-{_digest(config)}"
    target.mkdir(parents=True, exist_ok=True)
    with (target / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (target / "model.safetensors").exists():
            _write(target, config)
    return target


def tiny_experts(folder: Path | None = None) -> Path:
    """As `tiny_model`, a mixture of four experts of which each position chooses two."""
    return _written(folder, EXPERTS)


def _digest(config: Config) -> str:
    import hashlib
    import os

    owner = str(os.getuid()) if hasattr(os, "getuid") else ""
    return hashlib.sha256(f"{owner}{json.dumps(config)}".encode()).hexdigest()[:12]


def _write(folder: Path, config: Config) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    rng = np.random.default_rng(0)
    tensors = {
        name: np.ones(shape, np.float32) if "norm" in name else rng.normal(0, 0.2, shape).astype(np.float32)
        for name, shape in _shapes(config).items()
    }
    _write_tokenizer(folder)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    save_file(tensors, folder / ".model", metadata={"format": "pt"})
    (folder / ".model").rename(folder / "model.safetensors")


def _shapes(config: Config) -> dict[str, tuple[int, ...]]:
    hidden, inner, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    layer = {
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "self_attn.q_norm": (head,),
        "self_attn.k_norm": (head,),
        "input_layernorm": (hidden,),
        "post_attention_layernorm": (hidden,),
    }
    mlp = {"gate_proj": (inner, hidden), "up_proj": (inner, hidden), "down_proj": (hidden, inner)}
    if "num_experts" in config:
        small = config["moe_intermediate_size"]
        mlp = {"gate": (config["num_experts"], hidden)}
        for expert in range(config["num_experts"]):
            mlp |= {f"experts.{expert}.{name}_proj": (small, hidden) for name in ("gate", "up")}
            mlp |= {f"experts.{expert}.down_proj": (hidden, small)}
    layer |= {f"mlp.{name}": shape for name, shape in mlp.items()}
    return {
        "model.embed_tokens.weight": (config["vocab_size"], hidden),
        **{f"model.layers.0.{name}.weight": shape for name, shape in layer.items()},
        "model.norm.weight": (hidden,),
        "lm_head.weight": (config["vocab_size"], hidden),
    }


def _write_tokenizer(folder: Path) -> None:
    """One token per ASCII character, and the two ends of a turn."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {chr(code): code for code in _BASIC} | {"<|endoftext|>": 126, "<|im_end|>": 127}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_end|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "model_max_length": 256}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
