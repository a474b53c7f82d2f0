#!/usr/bin/env bash
# peft 0.21.2, transformers 5.24.0, torch 2.13.0 (seen on 2026-11-29, Python 3.11, CPU)
#
# LoRA adapters that were trained when each expert's matrices were modules of their own (transformers 4: `experts.0.gate_proj`) are
# converted when they are opened over the fused experts of transformers 5. gate_proj and up_proj become one matrix, of which the
# adapter has twice the rank; for a plain adapter twice the alpha makes up for it, and the model computes exactly what it did.
#   - of a rank-stabilised one (`use_rslora`) the scale goes by the square root of the rank: gate and up count 1.41 times;
#   - an `alpha_pattern` for gate_proj and up_proj is replaced by twice the usual alpha;
#   - an adapter of gate_proj and up_proj without down_proj does nothing at all: its tensors find no place.
# Warnings come, of patterns without a module and, in the last case, of missing keys; the first comes for the plain adapter too.
#
# We had expected all of them to compute what they did, or to be refused, as one of gate_proj alone is. The cure is to merge
# such an adapter with the transformers it was trained with.
#
# Output seen (logits beside those of a merge by hand, with the right scale and with another):
#   gate, up, down: as by hand
#   gate, up, down, rank-stabilised: apart; gate and up 1.41 times: as by hand
#   gate, up, down, alpha_pattern: apart; the usual alpha: as by hand
#   down alone: as by hand
#   gate, up: apart; none of it: as by hand
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0
venv/bin/pip install -q peft==0.21.2 transformers==5.24.0
cat > look.py <<'PY'
import json
import warnings
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import save_file
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

warnings.simplefilter("ignore")
HIDDEN, INNER, EXPERTS, RANK, ALPHA = 16, 24, 4, 2, 8
GATE, UP, DOWN = "gate_proj", "up_proj", "down_proj"
SIZES = {"vocab_size": 32, "hidden_size": HIDDEN, "intermediate_size": INNER, "moe_intermediate_size": INNER}
HEADS = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8}


def base():
    torch.manual_seed(0)
    experts = {"num_experts": EXPERTS, "num_experts_per_tok": 2, "initializer_range": 0.3}
    return Qwen3MoeForCausalLM(Qwen3MoeConfig(**SIZES, **HEADS, **experts)).eval()


@torch.no_grad()
def logits(model):
    return model(torch.arange(8)[None]).logits


def written(modules, **settings):
    """An adapter as it was saved over modules, one for each expert; its product of matrices by expert and module."""
    torch.manual_seed(1)
    tensors, products = {}, {}
    for expert in range(EXPERTS):
        for name in modules:
            outputs, inputs = (HIDDEN, INNER) if name == DOWN else (INNER, HIDDEN)
            first, second = torch.randn(RANK, inputs) * 0.3, torch.randn(outputs, RANK) * 0.3
            where = f"base_model.model.model.layers.0.mlp.experts.{expert}.{name}"
            tensors |= {f"{where}.lora_A.weight": first, f"{where}.lora_B.weight": second}
            products[expert, name] = second @ first
    Path("adapter").mkdir(exist_ok=True)
    save_file(tensors, "adapter/adapter_model.safetensors", metadata={"format": "pt"})
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": ALPHA, "target_modules": modules}
    Path("adapter/adapter_config.json").write_text(json.dumps(config | settings))
    return products


@torch.no_grad()
def by_hand(products, scales):
    model = base()
    experts = model.model.layers[0].mlp.experts
    for (expert, name), product in products.items():
        whole = experts.down_proj if name == DOWN else experts.gate_up_proj
        rows = {GATE: slice(None, INNER), UP: slice(INNER, None), DOWN: slice(None)}[name]
        whole[expert, rows] += product * scales[name]
    return logits(model)


def same(modules, right, other=None, **settings):
    products = written(modules, **settings)
    found = logits(PeftModel.from_pretrained(base(), "adapter"))
    return [torch.allclose(found, by_hand(products, s), atol=1e-4) for s in (right, other) if s is not None]


def scales(gate_up, down):
    return {GATE: gate_up, UP: gate_up, DOWN: down}


everything, plain, root = [GATE, UP, DOWN], ALPHA / RANK, ALPHA / RANK**0.5
pattern = {"alpha_pattern": {GATE: 4 * ALPHA, UP: 4 * ALPHA}}
cases = {
    "gate, up, down": (same(everything, scales(plain, plain)), ""),
    "gate, up, down, rank-stabilised": (
        same(everything, scales(root, root), scales(root * 2**0.5, root), use_rslora=True),
        "gate and up 1.41 times",
    ),
    "gate, up, down, alpha_pattern": (
        same(everything, scales(4 * plain, plain), scales(plain, plain), **pattern),
        "the usual alpha",
    ),
    "down alone": (same([DOWN], scales(0, plain)), ""),
    "gate, up": (same([GATE, UP], scales(plain, 0), scales(0, 0)), "none of it"),
}
for name, (seen, other) in cases.items():
    words = ["as by hand" if one else "apart" for one in seen]
    print(f"{name}: {words[0]}" + (f"; {other}: {words[1]}" if other else ""))
if [seen for seen, _ in cases.values()] != [[True], [False, True], [False, True], [True], [False, True]]:
    raise SystemExit("the behaviour has changed")
PY
venv/bin/python look.py
