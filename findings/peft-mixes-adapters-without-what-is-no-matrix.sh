#!/usr/bin/env bash
# peft 0.21.2, transformers 5.24.0, torch 2.13.0 (seen on 2026-11-30, Python 3.11, CPU)
#
# `add_weighted_adapter` with `combination_type="cat"` makes the exact weighted sum of plain LoRA adapters. What an adapter has besides
# its matrices is not mixed: the new adapter has the base's own values there. Trained tokens (`trainable_token_indices`) are
# those of the base, and of a DoRA adapter the magnitudes are those that an untrained one has. So it is for whole layers
# (`modules_to_save`) of one adapter alone, while those of two are an error that says they cannot be mixed. Where this is
# the rest, nothing is said, and the folder that is saved opens to the same. "svd" and "linear" leave out the same.
#
# We had expected a mix of one adapter, with weight 1, to be that adapter, or the error. The cure is to merge each adapter into a
# copy of the base, and to average the models.
#
# Output seen (mix of one adapter with weight 1):
#   plain            the adapter itself: True
#   trained tokens   the adapter itself: False, without them: True
#   modules_to_save  the adapter itself: False, without them: True
#   DoRA             the adapter itself: False, without them: True
#   modules_to_save of two adapters: ValueError
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
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

warnings.simplefilter("ignore")
SIZES = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def model_with(config):
    torch.manual_seed(0)
    return get_peft_model(LlamaForCausalLM(LlamaConfig(**SIZES, initializer_range=0.2)), config, adapter_name="one")


@torch.no_grad()
def logits(model):
    return model.eval()(torch.tensor([[1, 2, 3, 4]])).logits


def mixed(**settings):
    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], **settings)
    model = model_with(config)
    start = {name: value.detach().clone() for name, value in model.named_parameters() if value.requires_grad}
    for value in model.parameters():
        if value.requires_grad:
            value.data += 0.2 * torch.randn_like(value)
    right = logits(model)
    model.add_weighted_adapter(["one"], [1.0], "mix", combination_type="cat")
    model.set_adapter("mix")
    found = logits(model)
    model.set_adapter("one")
    for name, value in model.named_parameters():
        if name in start and "lora_A" not in name and "lora_B" not in name:
            value.data = start[name]
    without = logits(model)
    return torch.allclose(found, right, atol=1e-4), torch.allclose(found, without, atol=1e-4)


seen = []
for name, settings in (
    ("plain", {}),
    ("trained tokens", {"trainable_token_indices": [2, 3]}),
    ("modules_to_save", {"modules_to_save": ["lm_head"]}),
    ("DoRA", {"use_dora": True}),
):
    itself, without = mixed(**settings)
    seen.append((itself, without))
    print(f"{name:16} the adapter itself: {itself}" + (f", without them: {without}" if settings else ""))
config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], modules_to_save=["lm_head"])
model = model_with(config)
model.add_adapter("two", config)
try:
    model.add_weighted_adapter(["one", "two"], [0.5, 0.5], "mix", combination_type="cat")
    error = "none"
except ValueError as raised:
    error = type(raised).__name__
print(f"modules_to_save of two adapters: {error}")
if (seen, error) != ([(True, True), (False, True), (False, True), (False, True)], "ValueError"):
    raise SystemExit("the behaviour has changed")
PY
venv/bin/python look.py
