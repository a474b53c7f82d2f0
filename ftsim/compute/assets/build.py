"""`python -m ftsim.compute.assets.build [ARCHITECTURE...]`: write the shipped tokenizer and base models again.

The tokenizer comes out byte for byte on every machine. The weights come out bit for bit on the same machine, thread
count and torch version; elsewhere floating-point sums are ordered differently and only the losses agree closely.
"""

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ftsim.compute.assets import FOLDER
from ftsim.compute.models import pretrain, tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_COMMON: dict[str, Any] = {
    "vocab_size": tokenizer.VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": True,
    "initializer_range": 0.05,
    "bos_token_id": None,
    "eos_token_id": tokenizer.special_id(tokenizer.IM_END),
}
_ATTENTION = {"head_dim": 16, "num_key_value_heads": 2}
_SHARED_EXPERTS = {
    "moe_intermediate_size": 96,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "routed_scaling_factor": 1.0,
    "num_nextn_predict_layers": 0,
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "qwen3": _COMMON | _ATTENTION,
    "qwen3_moe": _COMMON
    | _ATTENTION
    | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 96, "norm_topk_prob": True},
    "deepseek_v3": _COMMON
    | _SHARED_EXPERTS
    | {
        "num_key_value_heads": 4,
        "kv_lora_rank": 32,
        "q_lora_rank": 32,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 16,
        "v_head_dim": 16,
    },
    "glm4_moe": _COMMON | _ATTENTION | _SHARED_EXPERTS,
}
"""Hyperparameters by `model_type`; everything else is the architecture's default."""

RECIPES = {
    "qwen3": pretrain.Recipe(),
    "qwen3_moe": pretrain.Recipe(batch=8, steps=2000),
    "deepseek_v3": pretrain.Recipe(batch=8, steps=1000),
    "glm4_moe": pretrain.Recipe(batch=8, steps=1000),
}


def fresh(architecture: str, seed: int = 0) -> "PreTrainedModel":
    """An untrained model, float32, initialised from `seed`."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    config = AutoConfig.for_model(architecture, **ARCHITECTURES[architecture])
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return model


def write_base(model: "PreTrainedModel", folder: Path) -> None:
    """Write `config.json` and float16 `model.safetensors` (half the size; handed out as float32), untied.

    The model was pre-trained with one matrix for its embeddings and its output layer. The models of these names on the
    service have two, which an adapter on the output layer needs: it must not move the embeddings when it is merged. So
    the output layer gets a copy.
    """
    import numpy as np
    from safetensors.numpy import load_file, save_file

    folder.mkdir(exist_ok=True)
    with TemporaryDirectory() as aside:
        model.save_pretrained(aside)
        config = json.loads((Path(aside) / "config.json").read_text(encoding="utf-8"))
        tensors = load_file(Path(aside) / "model.safetensors")
    del config["transformers_version"]
    config["tie_word_embeddings"] = False
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    halves = {key: value.astype(np.float16) for key, value in tensors.items()}
    save_file(halves, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)


def write_record(folder: Path, recipe: pretrain.Recipe, losses: list[float], held_out: float, seconds: float) -> None:
    """Write `training.json`: what was run and what came out, for whoever runs it again."""
    import torch

    record = {
        "recipe": asdict(recipe),
        "first_losses": losses[:20],
        "held_out_loss": held_out,
        "seconds": round(seconds, 1),
        "torch": torch.__version__,
    }
    (folder / "training.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def main(arguments: list[str]) -> None:
    """Write the tokenizer, then pre-train the architectures named, or all, and say what came out."""
    import torch

    torch.set_num_threads(2)
    words = tokenizer.train()
    words.save(str(FOLDER / "tokenizer.json"), pretty=False)
    print(f"unigram entropy of the held-out text: {pretrain.unigram_entropy(words):.3f} nats per token")
    for architecture in arguments or ARCHITECTURES:
        started = time.perf_counter()
        model, folder = fresh(architecture), FOLDER / architecture
        losses = pretrain.train(model, words, RECIPES[architecture])
        seconds = time.perf_counter() - started
        held_out = pretrain.held_out_loss(model, words)
        write_base(model, folder)
        write_record(folder, RECIPES[architecture], losses, held_out, seconds)
        size = (folder / "model.safetensors").stat().st_size
        print(
            f"{architecture}: {len(losses)} steps in {seconds:.0f} s, loss {held_out:.3f}, {size:,} bytes", flush=True
        )


if __name__ == "__main__":
    main(sys.argv[1:])
