#!/usr/bin/env bash
# peft 0.21.2, torch 2.13.0 (seen on 2026-11-29, Python 3.11, CPU)
#
# `peft.utils.hotswap.hotswap_adapter` exchanges the weights of a loaded LoRA adapter for those of another folder, also where
# their alphas differ: the swapped model computes exactly what a fresh load of that folder computes. `save_pretrained` of the
# swapped model then writes the new weights beside the configuration of the first adapter, its alpha too. The folder opens
# without a word and computes something else.
#
# We had expected the second save to be what the model computes, as the first is. The cure is to set `lora_alpha` (and the
# rest) of `model.peft_config[name]` from the folder that was swapped in, before the save.
#
# Output seen:
#   the swapped model beside a fresh load: 0.0
#   alpha of the folder that was swapped in: 32, alpha that was saved: 4
#   what was saved, opened again, beside the model that saved it: False
#   with lora_alpha set by hand: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0
venv/bin/pip install -q peft==0.21.2
cat > look.py <<'PY'
import json
import warnings
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils.hotswap import hotswap_adapter

warnings.simplefilter("ignore")


class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.q = torch.nn.Linear(4, 4, bias=False)

    def forward(self, x):
        return self.q(x)


def written(name, seed, alpha):
    model = Small()
    torch.manual_seed(seed)
    config = LoraConfig(r=2, lora_alpha=alpha, target_modules=["q"], init_lora_weights=False)
    get_peft_model(model, config).save_pretrained(name)
    return name


def opened(name):
    return PeftModel.from_pretrained(Small(), name)


def alpha(name):
    return json.loads(Path(name, "adapter_config.json").read_text())["lora_alpha"]


x = torch.ones(1, 4)
model = opened(written("first", 1, 4))
hotswap_adapter(model, written("second", 2, 32), adapter_name="default", torch_device="cpu")
apart = float((model(x) - opened("second")(x)).abs().max())
print(f"the swapped model beside a fresh load: {apart}")
model.save_pretrained("again")
print(f"alpha of the folder that was swapped in: {alpha('second')}, alpha that was saved: {alpha('again')}")
same = torch.allclose(model(x), opened("again")(x), atol=1e-5)
print(f"what was saved, opened again, beside the model that saved it: {same}")
model.peft_config["default"].lora_alpha = alpha("second")
model.save_pretrained("cured")
cured = torch.allclose(model(x), opened("cured")(x), atol=1e-5)
print(f"with lora_alpha set by hand: {cured}")
if (apart < 1e-5, alpha("again"), same, cured) != (True, 4, False, True):
    raise SystemExit("the behaviour has changed")
PY
venv/bin/python look.py
