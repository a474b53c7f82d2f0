#!/usr/bin/env bash
# torch 2.13.0, transformers 5.23.0 (seen on 2026-11-28, Python 3.11, CPU)
#
# torch.distributed.checkpoint restores the dictionary that it is given in place. What lies under an integer key is flattened
# to text ("state.0.step") and put back under the text "0", so after `dcp.load`
#   - a tensor under the integer key is right, since it is filled where it lies;
#   - a number under the same integer key keeps the old value, and a second entry "0" with the saved number stands beside it.
# An optimizer's state dict has integer keys. Where the step count is a plain number (transformers' Adafactor; torch's LBFGS
# keeps such numbers too), `load_state_dict` takes the mixed dictionary without a word: the moments are of step 5, the count
# is of step 1, and the run goes on with other weights than the one that was never interrupted.
#
# We had expected all of the state to come back, or none of it. The cure is `get_optimizer_state_dict`, which goes by name,
# or keys that are text.
#
# Output seen:
#   keys after the load: [0, 1, '0', '1'], step under 0: 1, step under '0': 5
#   three steps later: 8 in the run that went on, 4 in the resumed one, same weights: False
#   with get_optimizer_state_dict: 8, same weights: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0
venv/bin/pip install -q transformers==5.23.0
cat > look.py <<'PY'
import copy
import tempfile
import warnings

warnings.simplefilter("ignore")
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from transformers.optimization import Adafactor


def make():
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 4)
    return model, Adafactor(model.parameters(), lr=1e-2, relative_step=False, scale_parameter=False)


def train(model, optimizer, steps):
    for step in steps:
        torch.manual_seed(step)
        optimizer.zero_grad()
        model(torch.randn(3, 4)).square().sum().backward()
        optimizer.step()


def count(optimizer):
    return optimizer.state_dict()["state"][0]["step"]


model, optimizer = make()
train(model, optimizer, range(5))
plain, named = tempfile.mkdtemp(), tempfile.mkdtemp()
dcp.save({"optimizer": optimizer.state_dict()}, checkpoint_id=plain)
dcp.save({"optimizer": get_optimizer_state_dict(model, optimizer)}, checkpoint_id=named)
weights = copy.deepcopy(model.state_dict())
train(model, optimizer, range(5, 8))

resumed, again = make()
train(resumed, again, range(1))
state = {"optimizer": again.state_dict()}
dcp.load(state, checkpoint_id=plain)
found = state["optimizer"]["state"]
keys = list(found)
print(f"keys after the load: {keys}, step under 0: {found[0]['step']}, step under '0': {found['0']['step']}")
again.load_state_dict(state["optimizer"])
resumed.load_state_dict(weights)
train(resumed, again, range(5, 8))
same = torch.equal(model.weight, resumed.weight)
print(f"three steps later: {count(optimizer)} in the run that went on, {count(again)} in the resumed one, same weights: {same}")

cured, third = make()
train(cured, third, range(1))
state = {"optimizer": get_optimizer_state_dict(cured, third)}
dcp.load(state, checkpoint_id=named)
set_optimizer_state_dict(cured, third, state["optimizer"])
cured.load_state_dict(weights)
train(cured, third, range(5, 8))
right = torch.equal(model.weight, cured.weight)
print(f"with get_optimizer_state_dict: {count(third)}, same weights: {right}")
if (keys, count(again), same, right) != ([0, 1, "0", "1"], 4, False, True):
    raise SystemExit("the behaviour has changed")
PY
venv/bin/python look.py 2>&1
