#!/usr/bin/env bash
# peft 0.21.2, torch 2.13.0 (seen on 2026-11-29, Python 3.11, CPU)
#
# `add_weighted_adapter` makes a new adapter of others: with `combination_type="cat"`, or "svd" of enough rank, it is their weighted
# sum, exactly. It gives the new adapter an alpha equal to its rank, for a scale of 1, and copies the rest of the first one's
# settings. Of rank-stabilised adapters (`use_rslora=True`) that is copied too, and there the same alpha is a scale of the square
# root of the rank: two of rank 16 that are mixed half and half change the model 5.66 times as much as their mean, or 4 times
# with "linear". Nothing is said, and the folder that is saved opens to the same.
#
# We had expected the sum, as for adapters that are not rank-stabilised. The cure is to divide the weights by the square root of
# the new rank (the sum of the ranks for "cat", `svd_rank`, or the one rank of "linear").
#
# Output seen:
#   linear, first alone: plain 1.0 times, rank-stabilised 4.0 times, with weights divided 1.0 times
#   cat, half and half: plain 1.0 times, rank-stabilised 5.66 times, with weights divided 1.0 times
#   svd, half and half: plain 1.0 times, rank-stabilised 5.66 times, with weights divided 1.0 times
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

warnings.simplefilter("ignore")
RANK = 16


class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.q = torch.nn.Linear(64, 64, bias=False)

    def forward(self, x):
        return self.q(x)


def change(model, name):
    return model.base_model.model.q.get_delta_weight(name).detach()


def times(kind, weights, new_rank, stabilised, divided=False):
    """How many times the weighted sum the mixed adapter is, in memory and in the folder that is saved."""
    settings = {"r": RANK, "lora_alpha": 16, "target_modules": ["q"], "init_lora_weights": False}
    torch.manual_seed(1)
    model = get_peft_model(Small(), LoraConfig(**settings, use_rslora=stabilised), adapter_name="a")
    model.add_adapter("b", LoraConfig(**settings, use_rslora=stabilised))
    right = weights[0] * change(model, "a") + weights[1] * change(model, "b")
    given = [weight / (new_rank**0.5 if divided else 1) for weight in weights]
    more = {"svd_rank": new_rank} if kind == "svd" else {}
    model.add_weighted_adapter(["a", "b"], given, "mixed", combination_type=kind, **more)
    mixed = change(model, "mixed")
    model.save_pretrained("saved", selected_adapters=["mixed"])
    opened = PeftModel.from_pretrained(Small(), "saved/mixed", adapter_name="mixed")
    assert torch.allclose(change(opened, "mixed"), mixed, atol=1e-5)
    found = float((mixed * right).sum() / (right * right).sum())
    assert torch.allclose(mixed, found * right, atol=1e-3 * float(mixed.abs().max()))
    return round(found, 2)


seen = []
for kind, weights, rank in (("linear", [1.0, 0.0], RANK), ("cat", [0.5, 0.5], 2 * RANK), ("svd", [0.5, 0.5], 2 * RANK)):
    seen.append((times(kind, weights, rank, False), times(kind, weights, rank, True), times(kind, weights, rank, True, True)))
    what = "first alone" if kind == "linear" else "half and half"
    plain, stabilised, divided = seen[-1]
    print(f"{kind}, {what}: plain {plain} times, rank-stabilised {stabilised} times, with weights divided {divided} times")
if seen != [(1.0, 4.0, 1.0), (1.0, 5.66, 1.0), (1.0, 5.66, 1.0)]:
    raise SystemExit("the behaviour has changed")
PY
venv/bin/python look.py
