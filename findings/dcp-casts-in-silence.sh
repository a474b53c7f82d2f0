#!/usr/bin/env bash
# torch 2.13.0 (seen on 2026-11-28, Python 3.11, CPU)
#
# torch.distributed.checkpoint compares the shape of what was saved with the tensor it is to fill, never the dtype: the values
# are copied with a cast, without an error or a warning, even where the cast cannot hold them. A router's bias or an optimizer's
# moment that one version of a program keeps in float32 and the next in a narrower type comes back as something else:
#   float32 1.7 into int64 becomes 1; -1.0 into uint8 becomes 255; 500.0 into float8_e4m3fn becomes 448.
# A wrong shape is an error, and so is a saved tensor where the dictionary holds a number. A saved number where the dictionary
# holds a tensor is none: the number takes the tensor's place there, and the module that shared it keeps its old values.
#
# We had expected an error as for the shape. The cure is to compare the dtypes in the metadata before the load.
#
# Output seen:
#   torch.int64: 1
#   torch.uint8: 255
#   torch.float8_e4m3fn: 448.0
#   warnings: 0
#   a number was saved: dictionary holds int 5, module holds 0.0
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

import torch
import torch.distributed.checkpoint as dcp

cases = [
    (torch.tensor([1.7]), torch.zeros(1, dtype=torch.int64), 1),
    (torch.tensor([-1.0]), torch.zeros(1, dtype=torch.uint8), 255),
    (torch.tensor([500.0]), torch.zeros(1, dtype=torch.float8_e4m3fn), 448.0),
]
found = []
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    for saved, filled, _ in cases:
        folder = tempfile.mkdtemp()
        dcp.save({"value": saved}, checkpoint_id=folder)
        told.clear()
        dcp.load({"value": filled}, checkpoint_id=folder)
        found.append(filled.item())
        print(f"{filled.dtype}: {filled.item()}")
    casts = [warning for warning in told if "cast" in str(warning.message).lower()]
    print(f"warnings: {len(casts)}")
    module = torch.nn.Module()
    module.register_buffer("step", torch.zeros(()))
    folder = tempfile.mkdtemp()
    dcp.save({"step": 5}, checkpoint_id=folder)
    state = module.state_dict()
    dcp.load(state, checkpoint_id=folder)
held = (type(state["step"]).__name__, state["step"], module.step.item())
print(f"a number was saved: dictionary holds {held[0]} {held[1]}, module holds {held[2]}")
if found != [right for _, _, right in cases] or casts or held != ("int", 5, 0.0):
    raise SystemExit("the behaviour has changed")
PY
venv/bin/python look.py
