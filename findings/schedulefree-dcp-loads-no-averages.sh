#!/usr/bin/env bash
# schedulefree 1.4.1, torch 2.13.0 (seen on 2026-11-30, Python 3.11, CPU)
#
# A run of `AdamWScheduleFree` is saved by torch.distributed.checkpoint with `get_optimizer_state_dict`, and resumed likewise.
# On an optimizer as it is made the question is an error that asks for `optimizer.train()`. With `train()` before it, there is
# no error, and what comes back is the count of steps without `z` and without the second moments: `train()` looks at
# `optimizer.state[p]`, an empty entry stays, and torch takes the optimizer for one that has its state. The next step begins
# its average at the weights as loaded and divides by moments that began at zero, with the bias correction of step 7.
# `SGDScheduleFree` loses `z` alike.
#
# We had expected the error or the whole state. The cure is `optimizer.train()`, then `optimizer.state.clear()`, then the
# question.
#
# Output seen:
#   as it is made: Optimizer was not in train mode when step is called
#   train() before: 6 steps counted, loaded [], same as the run that went on: False
#   train() before, state cleared: 6 steps counted, loaded ['exp_avg_sq', 'z'], same as the run that went on: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0
venv/bin/pip install -q numpy schedulefree==1.4.1
cat > look.py <<'PY'
import tempfile
import warnings

warnings.simplefilter("ignore")
import torch
import torch.distributed.checkpoint as dcp
from schedulefree import AdamWScheduleFree
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict


def make():
    torch.manual_seed(0)
    model = torch.nn.Linear(8, 4, bias=False)
    return model, AdamWScheduleFree(model.parameters(), lr=1e-2)


def train(model, optimizer, steps):
    optimizer.train()
    for step in steps:
        torch.manual_seed(step)
        optimizer.zero_grad()
        model(torch.randn(4, 8)).square().mean().backward()
        optimizer.step()
    optimizer.eval()


whole, optimizer = make()
train(whole, optimizer, range(6))
saved = tempfile.mkdtemp()
dcp.save({"model": whole.state_dict(), "optimizer": get_optimizer_state_dict(whole, optimizer)}, checkpoint_id=saved)
train(whole, optimizer, range(6, 9))
for what in ("as it is made", "train() before", "train() before, state cleared"):
    model, optimizer = make()
    if "train" in what:
        optimizer.train()
    if "cleared" in what:
        optimizer.state.clear()
    try:
        state = {"model": model.state_dict(), "optimizer": get_optimizer_state_dict(model, optimizer)}
    except Exception as error:
        print(f"{what}: {str(error).split('.')[0]}")
        continue
    dcp.load(state, checkpoint_id=saved)
    set_optimizer_state_dict(model, optimizer, state["optimizer"])
    model.load_state_dict(state["model"])
    steps, loaded = optimizer.param_groups[0]["k"], sorted(optimizer.state[model.weight])
    train(model, optimizer, range(6, 9))
    same = torch.equal(whole.weight, model.weight)
    print(f"{what}: {steps} steps counted, loaded {loaded}, same as the run that went on: {same}")
PY
venv/bin/python look.py 2>/dev/null | tee seen
cat > expected <<'TXT'
as it is made: Optimizer was not in train mode when step is called
train() before: 6 steps counted, loaded [], same as the run that went on: False
train() before, state cleared: 6 steps counted, loaded ['exp_avg_sq', 'z'], same as the run that went on: True
TXT
diff expected seen && echo "as described"
