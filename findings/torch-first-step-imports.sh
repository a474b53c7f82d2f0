#!/usr/bin/env bash
# What a first optimizer step of eager PyTorch imports besides torch.
#
# Versions: torch 2.13.0, CPU, Python 3.11 (Linux).
#
# Guess before running: a program that never compiles imports no compiler. `import torch` loads what eager mode needs;
# making an optimizer and one backward pass import nothing more.
#
# Behaviour: `torch.optim.AdamW(...)` imports torch._dynamo, torch._inductor, sympy and torch.distributed.tensor, about
# 800 modules and a second of CPU: its constructor calls a method that is decorated with torch._disable_dynamo. The
# function `torch.optim.adamw.adamw` takes the same step and imports nothing. `torch.autograd.backward(y, slopes)` imports
# sympy (torch.fx.experimental.symbolic_shapes) to compare two shapes; `(y * slopes).sum().backward()` gives the same
# gradients, bit by bit, and imports nothing. Cold tools and short tests pay for both.
#
# Output seen:
#   import torch                        -
#   backward of a scalar                -
#   torch.optim.adamw.adamw(...)        -
#   backward with slopes                sympy
#   torch.optim.AdamW(...)              sympy torch._dynamo torch._inductor torch.distributed.tensor
#   gradients equal: True, steps equal: True
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q torch==2.13.0 numpy
"$place/venv/bin/python" - <<'PROGRAM'
import sys

import torch
from torch.optim.adamw import adamw

HEAVY = ("sympy", "torch._dynamo", "torch._inductor", "torch.distributed.tensor")
seen = {}


def note(what):
    seen[what] = [name for name in HEAVY if name in sys.modules]
    print(f"{what:<34}  {' '.join(seen[what]) or '-'}")


note("import torch")
start = torch.linspace(-1, 1, 6)
first = torch.nn.Parameter(start.clone())
slopes = torch.linspace(1, 2, 6)
(torch.exp(first) * slopes).sum().backward()
note("backward of a scalar")
one = first.detach().clone()
moments = [torch.zeros(6)], [torch.zeros(6)]
how = dict(amsgrad=False, beta1=0.9, beta2=0.999, lr=0.1, weight_decay=0.01, eps=1e-8, maximize=False)
adamw([one], [first.grad], *moments, [], [torch.zeros(())], **how)
note("torch.optim.adamw.adamw(...)")
second = torch.nn.Parameter(start.clone())
torch.autograd.backward(torch.exp(second), slopes)
note("backward with slopes")
other = torch.nn.Parameter(start.clone())
other.grad = first.grad.clone()
torch.optim.AdamW([other], lr=0.1, weight_decay=0.01).step()
note("torch.optim.AdamW(...)")
gradients, steps = torch.equal(first.grad, second.grad), torch.equal(one, other.detach())
print(f"gradients equal: {gradients}, steps equal: {steps}")
expected = {
    "import torch": [],
    "backward of a scalar": [],
    "torch.optim.adamw.adamw(...)": [],
    "backward with slopes": ["sympy"],
    "torch.optim.AdamW(...)": list(HEAVY),
}
sys.exit(0 if seen == expected and gradients and steps else 1)
PROGRAM
