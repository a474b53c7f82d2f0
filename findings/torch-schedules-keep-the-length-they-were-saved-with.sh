#!/usr/bin/env bash
# torch 2.13.0 (seen on 2026-11-30, Python 3.11, CPU)
#
# A run of 10 steps is saved at step 8 and resumed with a schedule of 20. `load_state_dict` of torch's schedulers replaces
# whatever was given to the new one, so `CosineAnnealingLR(optimizer, 20)` has the period 10 again. It does not stop at its
# end: the rate climbs back, and the run ends near its highest rate where the lowest was planned. Within a SequentialLR
# likewise. PolynomialLR and a LambdaLR of an object train the rest with the rate 0. A LambdaLR of a function (transformers'
# cosine is one) keeps the new length, but for the first step, whose rate the optimizer's state brings. No warning in any case.
#
# We had expected the new length, or an error as OneCycleLR gives. The cure is a schedule that is a function of the step.
#
# Output seen:
#   CosineAnnealingLR: 0.010 0.002 0.035 0.079 ... 0.098; planned: 0.065 0.042 0.021 0.005 ... 0.001
#   SequentialLR with a warmup: 0.015 0.004 0.050 0.096 ... 0.096; planned: 0.075 0.050 0.025 0.007 ... 0.001
#   PolynomialLR: 0.020 0.000 0.000 0.000 ... 0.000; planned: 0.060 0.045 0.030 0.015 ... 0.005
#   LambdaLR of an object: 0.020 0.000 0.000 0.000 ... 0.000; planned: 0.060 0.045 0.030 0.015 ... 0.005
#   LambdaLR of a function: 0.020 0.045 0.030 0.015 ... 0.005; planned: 0.060 0.045 0.030 0.015 ... 0.005
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0
venv/bin/pip install -q numpy
cat > look.py <<'PY'
import warnings

warnings.simplefilter("ignore")
import torch
from torch.optim import lr_scheduler as schedulers


class Line:
    def __init__(self, length):
        self.length = length

    def __call__(self, step):
        return max(0.0, 1 - step / self.length)


def warm(optimizer, length):
    first = schedulers.LinearLR(optimizer, 0.1, 1.0, 2)
    return schedulers.SequentialLR(optimizer, [first, schedulers.CosineAnnealingLR(optimizer, length - 2)], [2])


WAYS = {
    "CosineAnnealingLR": schedulers.CosineAnnealingLR,
    "SequentialLR with a warmup": warm,
    "PolynomialLR": schedulers.PolynomialLR,
    "LambdaLR of an object": lambda optimizer, length: schedulers.LambdaLR(optimizer, Line(length)),
    "LambdaLR of a function": lambda optimizer, length: schedulers.LambdaLR(optimizer, lambda step: Line(length)(step)),
}


def begin(way, length):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    return optimizer, way(optimizer, length)


def go(optimizer, schedule, steps):
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


for name, way in WAYS.items():
    whole = go(*begin(way, 20), 20)[8:]
    optimizer, schedule = begin(way, 10)
    go(optimizer, schedule, 8)
    longer, again = begin(way, 20)
    longer.load_state_dict(optimizer.state_dict())
    again.load_state_dict(schedule.state_dict())
    rates = go(longer, again, 12)
    print(f"{name}:", *(f"{rate:.3f}" for rate in rates[::3]), f"... {rates[-1]:.3f};", end=" ")
    print("planned:", *(f"{rate:.3f}" for rate in whole[::3]), f"... {whole[-1]:.3f}")
PY
venv/bin/python look.py 2>/dev/null | tee seen
cat > expected <<'TXT'
CosineAnnealingLR: 0.010 0.002 0.035 0.079 ... 0.098; planned: 0.065 0.042 0.021 0.005 ... 0.001
SequentialLR with a warmup: 0.015 0.004 0.050 0.096 ... 0.096; planned: 0.075 0.050 0.025 0.007 ... 0.001
PolynomialLR: 0.020 0.000 0.000 0.000 ... 0.000; planned: 0.060 0.045 0.030 0.015 ... 0.005
LambdaLR of an object: 0.020 0.000 0.000 0.000 ... 0.000; planned: 0.060 0.045 0.030 0.015 ... 0.005
LambdaLR of a function: 0.020 0.045 0.030 0.015 ... 0.005; planned: 0.060 0.045 0.030 0.015 ... 0.005
TXT
diff expected seen && echo "as described"
