#!/usr/bin/env bash
# torch 2.13.0 (seen on 2026-11-29, Python 3.11, CPU, Linux with glibc 2.36)
#
# `fully_shard` over two ranks leaves each of them half of the weights, gradients and moments: 48 million weights in 24 layers,
# with AdamW, are 16 bytes each in one process, and should be little more than 8 on a rank, since a layer that was gathered is
# freed before the next. On CPUs the peak of a rank is higher than that of one process with everything. The tensors are freed; the
# memory is not: with the first large block that is freed glibc raises the size from which blocks are mappings of their own,
# up to 32 MB, and takes gathered layers from a heap that shrinks at its end alone.
#
# We had expected a rank to need some six tenths of one process. The cure is a fixed size in the environment of the ranks:
# MALLOC_MMAP_THRESHOLD_=4194304.
#
# Output seen (MB above what the imports take):
#   one process: 801
#   a rank of two: 944
#   a rank of two, MALLOC_MMAP_THRESHOLD_=4194304: 541
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0
venv/bin/pip install -q numpy
cat > look.py <<'PY'
import logging
import os
import re
import warnings
from pathlib import Path

warnings.simplefilter("ignore")
import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard

LAYERS, WIDTH = 24, 1400


def peak_mb():
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


torch.set_num_threads(1)
torch.manual_seed(0)
sharded = "RANK" in os.environ
if sharded:
    dist.init_process_group("gloo")
before = peak_mb()
model = torch.nn.Sequential(*(torch.nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(LAYERS)))
if sharded:
    for layer in model:
        fully_shard(layer).set_force_sum_reduction_for_comms(True)
    fully_shard(model)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, foreach=False)
for _ in range(3):
    model(torch.ones(4, WIDTH)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
if os.environ.get("RANK", "0") == "0":
    print(round(peak_mb() - before))
if sharded:
    dist.destroy_process_group()
PY
export OMP_NUM_THREADS=1
group="venv/bin/python -m torch.distributed.run --standalone --nproc-per-node=2 look.py"
alone=$(venv/bin/python look.py 2> errors || { cat errors; exit 1; })
usual=$($group 2> errors || { cat errors; exit 1; })
fixed=$(MALLOC_MMAP_THRESHOLD_=4194304 $group 2> errors || { cat errors; exit 1; })
echo "one process: $alone"
echo "a rank of two: $usual"
echo "a rank of two, MALLOC_MMAP_THRESHOLD_=4194304: $fixed"
if (( usual * 10 < alone * 9 || fixed * 10 > alone * 8 )); then
  echo "the behaviour has changed" >&2
  exit 1
fi
