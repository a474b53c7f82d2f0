#!/usr/bin/env bash
# torch 2.13.0 (seen on 2026-11-30, Python 3.11, CPU)
#
# Two ranks save into one folder, as with a checkpoint that is always named "last". `torch.distributed.checkpoint` writes the
# second save over the files of the first under the same names, and replaces `.metadata` at the end. A rank is killed in
# between: the save fails on both. The old metadata then describes the new files as well, since names, shapes and places are
# the same, and the folder loads without an error or a warning: rank 0's tensors are those of the second save, rank 1's those
# of the first.
#
# We had expected the first save or an error. The cure is a folder for each save, and a rename when it is done.
#
# Output seen:
#   both ranks failed: True
#   loaded: {'layer0': 2.0, 'layer1': 1.0, 'layer2': 2.0, 'layer3': 1.0}
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0
venv/bin/pip install -q numpy
cat > look.py <<'PY'
import multiprocessing
import os
import sys
import tempfile
import warnings
from datetime import timedelta
from pathlib import Path

warnings.simplefilter("ignore")
import logging

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp


class Killed(dcp.FileSystemWriter):
    def write_data(self, plan, planner):
        if dist.get_rank() == 1:
            os._exit(9)
        return super().write_data(plan, planner)


def weights(value):
    return {f"layer{number}": torch.full((4,), float(value)) for number in range(4)}


def rank(number, folder, meeting):
    logging.disable(logging.CRITICAL)
    sys.stderr = open(os.devnull, "w")
    store = dist.FileStore(meeting, 2)
    dist.init_process_group("gloo", store=store, rank=number, world_size=2, timeout=timedelta(seconds=30))
    dcp.save(weights(1), checkpoint_id=folder)
    dcp.save(weights(2), storage_writer=Killed(folder))


if __name__ == "__main__":
    folder = tempfile.mkdtemp()
    meeting = str(Path(tempfile.mkdtemp()) / "meeting")
    spawn = multiprocessing.get_context("spawn")
    ranks = [spawn.Process(target=rank, args=(number, folder, meeting)) for number in range(2)]
    for one in ranks:
        one.start()
    for one in ranks:
        one.join()
    print("both ranks failed:", all(one.exitcode for one in ranks))
    found = weights(0)
    dcp.load(found, checkpoint_id=folder)
    print("loaded:", {name: tensor[0].item() for name, tensor in found.items()})
PY
venv/bin/python look.py 2>/dev/null | tee seen
cat > expected <<'TXT'
both ranks failed: True
loaded: {'layer0': 2.0, 'layer1': 1.0, 'layer2': 2.0, 'layer3': 1.0}
TXT
diff expected seen && echo "as described"
