#!/usr/bin/env bash
# peft 0.21.2, transformers 5.24.0, torch 2.13.0 (seen on 2026-11-29, Python 3.11, CPU)
#
# `merge_adapter()` folds a LoRA adapter into the weights for faster evaluation; a save in between writes the adapter's matrices, as
# they are. Where the output layer or the embeddings are among the target modules, `save_pretrained` also writes these whole
# layers, by default. It takes their weights as they lie there: merged. The folder opens without a word, puts the adapter beside a
# layer that already has it, and computes with it twice. An adapter of other modules can be saved at any time.
#
# We had expected the second save to be equal to the first, as it is for every other module. The cure is `unmerge_adapter()` before
# each save, or `save_embedding_layers=False`.
#
# Output seen:
#   q_proj: saved plain, opens to the model: True; saved merged: True
#   q_proj, lm_head: saved plain, opens to the model: True; saved merged: False
#   q_proj, embed_tokens: saved plain, opens to the model: True; saved merged: False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0
venv/bin/pip install -q peft==0.21.2 transformers==5.24.0
cat > look.py <<'PY'
import warnings

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

warnings.simplefilter("ignore")
SIZES = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def base():
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZES, initializer_range=0.2)).eval()


@torch.no_grad()
def logits(model):
    return model(torch.tensor([[1, 2, 3]])).logits


def opens(name, right):
    return torch.allclose(logits(PeftModel.from_pretrained(base(), name)), right, atol=1e-4)


seen = []
for modules in (["q_proj"], ["q_proj", "lm_head"], ["q_proj", "embed_tokens"]):
    torch.manual_seed(1)
    model = get_peft_model(base(), LoraConfig(r=2, target_modules=modules, init_lora_weights=False))
    right = logits(model)
    model.save_pretrained("plain")
    model.merge_adapter()
    assert torch.allclose(logits(model), right, atol=1e-4)
    model.save_pretrained("merged")
    seen.append((opens("plain", right), opens("merged", right)))
    print(f"{', '.join(modules)}: saved plain, opens to the model: {seen[-1][0]}; saved merged: {seen[-1][1]}")
if seen != [(True, True), (True, False), (True, False)]:
    raise SystemExit("the behaviour has changed")
PY
venv/bin/python look.py
