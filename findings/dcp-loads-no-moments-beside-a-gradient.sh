#!/usr/bin/env bash
# torch 2.13.0 (seen on 2026-11-30, Python 3.11, CPU)
#
# A resumed run asks `get_optimizer_state_dict` for the dictionary that `dcp.load` fills. It holds moments only where the new
# optimizer has taken a step, or can be made to take an empty one; where any gradient lies on a weight (a backward pass before,
# to compile the model or to try the memory), or where `optimizer.state[p]` was merely looked at, which makes an entry, it
# holds the groups alone. `dcp.load` fills what it is given, `set_optimizer_state_dict` takes it: AdamW begins with empty
# moments and a count of 0, and no error or warning says so. Both are in the checkpoint.
#
# We had expected the moments, or an error. The cure is `zero_grad()` before the question, and a look at `optimizer.state`
# after it.
#
# Output seen:
#   nothing: loaded ['exp_avg', 'exp_avg_sq', 'step'], same as the run that went on: True
#   a backward pass: loaded [], same as the run that went on: False
#   a look at optimizer.state[p]: loaded [], same as the run that went on: False
#   a backward pass, then zero_grad(): loaded ['exp_avg', 'exp_avg_sq', 'step'], same as the run that went on: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0
venv/bin/pip install -q numpy
cat > look.py <<'PY'
import tempfile
import warnings

warnings.simplefilter("ignore")
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict


def make():
    torch.manual_seed(0)
    model = torch.nn.Linear(8, 4, bias=False)
    return model, torch.optim.AdamW(model.parameters(), lr=1e-2)


def backward(model, step):
    torch.manual_seed(step)
    model(torch.randn(4, 8)).square().mean().backward()


def train(model, optimizer, steps):
    for step in steps:
        optimizer.zero_grad()
        backward(model, step)
        optimizer.step()


whole, optimizer = make()
train(whole, optimizer, range(6))
saved = tempfile.mkdtemp()
dcp.save({"model": whole.state_dict(), "optimizer": get_optimizer_state_dict(whole, optimizer)}, checkpoint_id=saved)
train(whole, optimizer, range(6, 9))
for what in ("nothing", "a backward pass", "a look at optimizer.state[p]", "a backward pass, then zero_grad()"):
    model, optimizer = make()
    if "backward" in what:
        backward(model, 0)
    if "look" in what:
        for weight in model.parameters():
            optimizer.state[weight].get("exp_avg")
    if "zero_grad" in what:
        optimizer.zero_grad()
    state = {"model": model.state_dict(), "optimizer": get_optimizer_state_dict(model, optimizer)}
    dcp.load(state, checkpoint_id=saved)
    set_optimizer_state_dict(model, optimizer, state["optimizer"])
    model.load_state_dict(state["model"])
    loaded = sorted(optimizer.state[model.weight])
    train(model, optimizer, range(6, 9))
    print(f"{what}: loaded {loaded}, same as the run that went on: {torch.equal(whole.weight, model.weight)}")
PY
venv/bin/python look.py 2>/dev/null | tee seen
cat > expected <<'TXT'
nothing: loaded ['exp_avg', 'exp_avg_sq', 'step'], same as the run that went on: True
a backward pass: loaded [], same as the run that went on: False
a look at optimizer.state[p]: loaded [], same as the run that went on: False
a backward pass, then zero_grad(): loaded ['exp_avg', 'exp_avg_sq', 'step'], same as the run that went on: True
TXT
diff expected seen && echo "as described"
