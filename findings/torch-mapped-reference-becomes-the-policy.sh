#!/usr/bin/env bash
# torch 2.13.0, safetensors 0.8.0 (seen on 2026-11-30, Python 3.11, CPU)
#
# The reference of a run with a KL penalty is opened with `torch.load(path, mmap=True)` and `load_state_dict(assign=True)`, as
# is advised for large models, and stays on the CPU. The run saves its policy into the same file (last.pt) with `torch.save`,
# which writes into the file that is mapped: the reference, used already or not, becomes the policy. The divergence is 0 from
# then on, the penalty is gone, and nothing says so. With the file read instead of mapped the same loop is right, and so it is
# with safetensors' `load_file` and `save_file`.
#
# We had expected the loaded weights to stay what they were. The cure is to write beside and `os.replace`, or not to map.
#
# Output seen:
#   mapped, saved over: divergence from the reference 0.188, after a save 0.000
#   read, saved over: divergence from the reference 0.188, after a save 0.188
#   mapped, replaced: divergence from the reference 0.188, after a save 0.188
#   safetensors, saved over: divergence from the reference 0.188, after a save 0.188
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0
venv/bin/pip install -q numpy safetensors==0.8.0
cat > look.py <<'PY'
import os

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import kl_div, log_softmax


def make():
    torch.manual_seed(0)
    return nn.Linear(512, 512, bias=False)


def divergence(policy, reference):
    torch.manual_seed(1)
    rows = torch.randn(4, 512)
    with torch.no_grad():
        here, there = log_softmax(policy(rows), -1), log_softmax(reference(rows), -1)
    return kl_div(there, here, log_target=True, reduction="batchmean").item()


def beside(weights, path):
    torch.save(weights, path + ".new")
    os.replace(path + ".new", path)


WAYS = {
    "mapped, saved over": (lambda path: torch.load(path, mmap=True), torch.save),
    "read, saved over": (torch.load, torch.save),
    "mapped, replaced": (lambda path: torch.load(path, mmap=True), beside),
    "safetensors, saved over": (load_file, save_file),
}
for name, (load, save) in WAYS.items():
    policy, path = make(), "last.bin"
    save(policy.state_dict(), path)
    with torch.device("meta"):
        reference = make()
    reference.load_state_dict(load(path), assign=True)
    with torch.no_grad():
        policy.weight.mul_(2)
    before = divergence(policy, reference)
    save(policy.state_dict(), path)
    print(f"{name}: divergence from the reference {before:.3f}, after a save {divergence(policy, reference):.3f}")
    os.unlink(path)
PY
venv/bin/python look.py 2>/dev/null | tee seen
cat > expected <<'TXT'
mapped, saved over: divergence from the reference 0.188, after a save 0.000
read, saved over: divergence from the reference 0.188, after a save 0.188
mapped, replaced: divergence from the reference 0.188, after a save 0.188
safetensors, saved over: divergence from the reference 0.188, after a save 0.188
TXT
diff expected seen && echo "as described"
