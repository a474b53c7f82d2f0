#!/usr/bin/env bash
# torch 2.13.0 (seen on 2026-11-30, Python 3.11, CPU)
#
# `torch.distributed.checkpoint.state_dict.get_optimizer_state_dict` (and `get_state_dict`) of an optimizer that has taken no
# step makes its state by a step with gradients and a learning rate of zero, and leaves it there: Adam's count says 1 with
# empty moments. A run that saves before its first step, so that there is always something to go back to, then trains as
# another one than the same run without that save: the bias correction of the first real step is that of a second one, and
# AdamW moves by three quarters of the learning rate, RAdam by half of what it should, Rprop by the least it can. SGD with
# momentum and weight decay has the decay in its momentum already. No weight moves at the save, so nothing shows it. The
# checkpoint of step 0 says 1.
#
# We had expected a question without an effect. The cure is `optimizer.state.clear()` behind a save before the first step, or
# to leave the optimizer out of that save.
#
# Output seen:
#   AdamW: first step 0.0100, asked before it 0.0075; same 20 steps later: False, with the state cleared: True
#   RAdam: first step 0.0433, asked before it 0.0228; same 20 steps later: False, with the state cleared: True
#   Rprop: first step 0.0100, asked before it 0.0000; same 20 steps later: False, with the state cleared: True
#   SGD, momentum: first step 0.0433, asked before it 0.0433; same 20 steps later: True, with the state cleared: True
#   SGD, momentum and decay: first step 0.0438, asked before it 0.0441; same 20 steps later: False, with the state cleared: True
#   step in what a save before the first step holds: 1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0
venv/bin/pip install -q numpy
cat > look.py <<'PY'
import copy
import warnings

warnings.simplefilter("ignore")
import torch
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict


def run(make, ask, forget=False):
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 4)
    optimizer = make(model.parameters())
    began, told = copy.deepcopy(model.weight.detach()), None
    if ask:
        told = float(get_optimizer_state_dict(model, optimizer)["state"]["weight"].get("step", 0))
    if forget:
        optimizer.state.clear()
    moved = []
    for step in range(20):
        torch.manual_seed(step)
        optimizer.zero_grad()
        model(torch.randn(3, 4)).square().sum().backward()
        optimizer.step()
        moved.append((model.weight.detach() - began).abs().max().item())
    return moved[0], model.weight.detach(), told


OPTIMIZERS = {
    "AdamW": lambda weights: torch.optim.AdamW(weights, lr=1e-2),
    "RAdam": lambda weights: torch.optim.RAdam(weights, lr=1e-2),
    "Rprop": lambda weights: torch.optim.Rprop(weights, lr=1e-2),
    "SGD, momentum": lambda weights: torch.optim.SGD(weights, lr=1e-2, momentum=0.9),
    "SGD, momentum and decay": lambda weights: torch.optim.SGD(weights, lr=1e-2, momentum=0.9, weight_decay=0.1),
}
for name, make in OPTIMIZERS.items():
    alone, asked, cured = run(make, False), run(make, True), run(make, True, forget=True)
    print(f"{name}: first step {alone[0]:.4f}, asked before it {asked[0]:.4f};", end=" ")
    print(f"same 20 steps later: {torch.equal(alone[1], asked[1])}, with the state cleared: {torch.equal(alone[1], cured[1])}")
print("step in what a save before the first step holds:", int(run(OPTIMIZERS["AdamW"], True)[2]))
PY
venv/bin/python look.py 2>/dev/null | tee seen
cat > expected <<'TXT'
AdamW: first step 0.0100, asked before it 0.0075; same 20 steps later: False, with the state cleared: True
RAdam: first step 0.0433, asked before it 0.0228; same 20 steps later: False, with the state cleared: True
Rprop: first step 0.0100, asked before it 0.0000; same 20 steps later: False, with the state cleared: True
SGD, momentum: first step 0.0433, asked before it 0.0433; same 20 steps later: True, with the state cleared: True
SGD, momentum and decay: first step 0.0438, asked before it 0.0441; same 20 steps later: False, with the state cleared: True
step in what a save before the first step holds: 1
TXT
diff expected seen && echo "as described"
