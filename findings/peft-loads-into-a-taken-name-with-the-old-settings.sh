#!/usr/bin/env bash
# peft 0.21.2, torch 2.13.0 (seen on 2026-11-29, Python 3.11, CPU)
#
# A loop that serves the newest adapter calls `model.load_adapter(folder, adapter_name="default")` for each one. Where the name
# is taken, the weights of the folder replace the old ones, and its adapter_config.json is not looked at: alpha and `use_rslora`
# stay those of the adapter that came first, modules that the new one lacks keep the first one's matrices, and tensors for
# modules that the first one lacked are dropped. The result computes neither of the two. Nothing is said, unless a shape
# differs, which is an error.
#
# We had expected the second adapter as a fresh load gives it, or an error that the name is taken. The cure is
# `model.delete_adapter(name)` before the load and `model.set_adapter(name)` after it, or a new name each time.
#
# Output seen (the model after the second load, beside a fresh load of the second folder):
#   the same settings: equal
#   another alpha: apart
#   rank-stabilised: apart
#   one module fewer: apart
#   one module more: apart
#   another alpha, under a new name: equal
#   another alpha, the old one deleted before: equal
#   warnings: 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0
venv/bin/pip install -q peft==0.21.2
cat > look.py <<'PY'
import warnings

import torch
from peft import LoraConfig, PeftModel, get_peft_model


class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.q, self.k, self.v = (torch.nn.Linear(4, 4, bias=False) for _ in range(3))

    def forward(self, x):
        return self.q(self.k(self.v(x)))


def written(name, seed, **settings):
    settings = {"r": 2, "lora_alpha": 4, "target_modules": ["q", "k"], "init_lora_weights": False} | settings
    model = Small()
    torch.manual_seed(seed)
    get_peft_model(model, LoraConfig(**settings)).save_pretrained(name)
    return name


def opened(name):
    return PeftModel.from_pretrained(Small(), name)


@torch.no_grad()
def equal(name="default", delete=False, **settings):
    model = opened(written("first", 1))
    second = written("second", 2, **settings)
    if delete:
        model.delete_adapter(name)
    model.load_adapter(second, adapter_name=name)
    model.set_adapter(name)
    x = torch.ones(1, 4)
    return torch.allclose(model(x), opened(second)(x), atol=1e-5)


with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    seen = {
        "the same settings": equal(),
        "another alpha": equal(lora_alpha=32),
        "rank-stabilised": equal(use_rslora=True),
        "one module fewer": equal(target_modules=["q"]),
        "one module more": equal(target_modules=["q", "k", "v"]),
        "another alpha, under a new name": equal("other", lora_alpha=32),
        "another alpha, the old one deleted before": equal(delete=True, lora_alpha=32),
    }
for name, same in seen.items():
    print(f"{name}: {'equal' if same else 'apart'}")
count = sum(word in str(one.message).lower() for one in told for word in ("adapter", "keys"))
print(f"warnings: {count}")
if [*seen.values(), count] != [True, False, False, False, False, True, True, 0]:
    raise SystemExit("the behaviour has changed")
PY
venv/bin/python look.py
