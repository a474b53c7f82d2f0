#!/usr/bin/env bash
# peft 0.21.2, transformers 5.24.0, torch 2.13.0 (seen on 2026-11-30, Python 3.11, CPU)
#
# `layer_replication=[[0, 2], [1, 2]]` stacks layers of a model anew, here 0, 1 and 1 again: the copies share their weights, and each
# has an adapter of its own. `merge_and_unload` adds the adapters of both copies to the one weight that they share, so each
# copy computes with both. Nothing is raised or printed, and the merged model differs from the adapted one by as much as
# the adapters are worth. `merge_adapter` and `unmerge_adapter` do the same and undo it.
#
# We had expected the merged model to compute what the adapted one did, or an error: DoRA's and activated adapters that no
# merge can keep are refused. The cure is to give each copy weights of its own (a deep copy of each layer) before the merge.
#
# Output seen:
#   layers: 3, weights of the last two shared: True
#   merged equals adapted: False; with weights of their own: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0
venv/bin/pip install -q peft==0.21.2 transformers==5.24.0
cat > look.py <<'PY'
import copy
import warnings

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

warnings.simplefilter("ignore")
SIZES = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
torch.manual_seed(0)
base = LlamaForCausalLM(LlamaConfig(**SIZES, initializer_range=0.2))
config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], layer_replication=[[0, 2], [1, 2]])
model = get_peft_model(base, config)
for name, value in model.named_parameters():
    if "lora_" in name:
        value.data += 0.2 * torch.randn_like(value)


@torch.no_grad()
def logits(of):
    return of.eval()(torch.tensor([[1, 2, 3, 4]])).logits


right = logits(model)
layers = model.get_base_model().model.layers
shared = layers[1].mlp.down_proj.weight is layers[2].mlp.down_proj.weight
print(f"layers: {len(layers)}, weights of the last two shared: {shared}")
own = copy.deepcopy(model)
own_layers = own.get_base_model().model.layers
own_layers[2] = copy.deepcopy(own_layers[2])
merged = torch.allclose(logits(model.merge_and_unload()), right, atol=1e-3)
apart = torch.allclose(logits(own.merge_and_unload()), right, atol=1e-3)
print(f"merged equals adapted: {merged}; with weights of their own: {apart}")
if (len(layers), shared, merged, apart) != (3, True, False, True):
    raise SystemExit("the behaviour has changed")
PY
venv/bin/python look.py
