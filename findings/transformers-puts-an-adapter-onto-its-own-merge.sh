#!/usr/bin/env bash
# transformers 5.24.0 (5.23.0 alike), peft 0.21.2, torch 2.13.0 (seen on 2026-11-29, Python 3.11, CPU)
#
# A run saves its adapter into a folder; in the end the merged model (`merge_and_unload().save_pretrained`) goes into the same
# folder. The weights that lie there then are right. `from_pretrained` of that folder, AutoModelForCausalLM's as well as
# LlamaForCausalLM's, finds adapter_config.json beside them, takes the whole model of this folder and not the base that the
# adapter names, and puts the adapter onto it once more. No warning comes; what reads the weights by themselves gets the merged
# model.
#
# We had expected the merged model, or the base with the adapter, which is the same. The cure is a folder of its own for the
# merged model, or to take adapter_config.json out.
#
# Output seen:
#   weights in the folder are the merged model: True
#   AutoModelForCausalLM opens the merged model: False, the merged model with the adapter again: True
#   LlamaForCausalLM opens the merged model: False, the merged model with the adapter again: True
#   without adapter_config.json the merged model: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0
venv/bin/pip install -q peft==0.21.2 transformers==5.24.0
cat > look.py <<'PY'
import warnings
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

warnings.simplefilter("ignore")
SIZES = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def base():
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZES, initializer_range=0.2)).eval()


@torch.no_grad()
def logits(model):
    return model.eval()(torch.tensor([[1, 2, 3]])).logits


def same(one, other):
    return torch.allclose(one, other, atol=1e-4)


base().save_pretrained("base")
torch.manual_seed(1)
config = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
model = get_peft_model(AutoModelForCausalLM.from_pretrained("base"), config)
right = logits(model)
model.save_pretrained("run")
model.merge_and_unload().save_pretrained("run")

alone = base()
alone.load_state_dict(load_file("run/model.safetensors"))
seen = [same(logits(alone), right)]
print(f"weights in the folder are the merged model: {seen[0]}")
twice = logits(PeftModel.from_pretrained(alone, "run"))
for kind in (AutoModelForCausalLM, LlamaForCausalLM):
    found = logits(kind.from_pretrained("run"))
    seen += [same(found, right), same(found, twice)]
    name = kind.__name__
    print(f"{name} opens the merged model: {seen[-2]}, the merged model with the adapter again: {seen[-1]}")
Path("run/adapter_config.json").unlink()
seen.append(same(logits(AutoModelForCausalLM.from_pretrained("run")), right))
print(f"without adapter_config.json the merged model: {seen[-1]}")
if seen != [True, False, True, False, True, True]:
    raise SystemExit("the behaviour has changed")
PY
venv/bin/python look.py
