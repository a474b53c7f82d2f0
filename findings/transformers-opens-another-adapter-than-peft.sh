#!/usr/bin/env bash
# transformers 5.24.0, peft 0.21.2, torch 2.13.0 (seen on 2026-11-30, Python 3.11, CPU)
#
# `AutoModelForCausalLM.from_pretrained(ADAPTER_FOLDER)` and `model.load_adapter(ADAPTER_FOLDER)` are transformers' own way to open what peft
# saved. For plain LoRA it gives what `PeftModel.from_pretrained` gives. For two kinds it does not, and answers all the same:
#   - of a DoRA adapter the matrices arrive and the magnitudes do not: they stay what they are of an untrained adapter. A table
#     among the lines that are printed while loading lists their names as UNEXPECTED, and once more, with ".weight", as MISSING;
#   - of an activated one (`alora_invocation_tokens`, which acts from those tokens on) nothing acts at all: the base model
#     answers, also behind the tokens. No line says so.
#
# We had expected one folder to be one model in both, or an error. The cure is `PeftModel.from_pretrained`, or AutoPeftModelForCausalLM.
#
# Output seen:
#   plain      peft opens what was saved: True, transformers: True
#   DoRA       peft opens what was saved: True, transformers: False, which is DoRA with untrained magnitudes: True
#   activated  peft opens what was saved: True, transformers: False, which is the base model: True
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
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

warnings.simplefilter("ignore")
logging.set_verbosity_error()
SIZES = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
torch.manual_seed(0)
LlamaForCausalLM(LlamaConfig(**SIZES, initializer_range=0.2)).save_pretrained("base")


def base():
    return AutoModelForCausalLM.from_pretrained("base")


@torch.no_grad()
def logits(model):
    return model.eval()(torch.tensor([[1, 2, 3, 4]])).logits


def same(one, other):
    return torch.allclose(one, other, atol=1e-4)


def saved(folder, **settings):
    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", **settings)
    model = get_peft_model(base(), config)
    start = {}
    generator = torch.Generator().manual_seed(1)
    for name, value in model.named_parameters():
        if "lora_" in name:
            start[name] = value.detach().clone()
            value.data += 0.3 * torch.randn(value.shape, generator=generator)
    model.save_pretrained(folder)
    right = logits(model)
    for name, value in model.named_parameters():
        if "magnitude" in name:
            value.data = start[name]
    return right, logits(model)


seen = []
for kind, settings in (("plain", {}), ("DoRA", {"use_dora": True}), ("activated", {"alora_invocation_tokens": [2, 3]})):
    right, untrained = saved(kind, **settings)
    found = logits(AutoModelForCausalLM.from_pretrained(kind))
    seen += [same(logits(PeftModel.from_pretrained(base(), kind)), right), same(found, right)]
    more = ""
    if kind == "DoRA":
        seen.append(same(found, untrained))
        more = f", which is DoRA with untrained magnitudes: {seen[-1]}"
    if kind == "activated":
        seen.append(same(found, logits(base())))
        more = f", which is the base model: {seen[-1]}"
    both = seen[-2:] if kind == "plain" else seen[-3:-1]
    print(f"{kind:10} peft opens what was saved: {both[0]}, transformers: {both[1]}{more}")
if seen != [True, True, True, False, True, True, False, True]:
    raise SystemExit("the behaviour has changed")
PY
venv/bin/python look.py
