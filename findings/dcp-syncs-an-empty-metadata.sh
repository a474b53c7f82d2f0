#!/usr/bin/env bash
# torch 2.13.0 (seen on 2026-11-29, Python 3.11, CPU, Linux)
#
# `torch.distributed.checkpoint.FileSystemWriter` has `sync_files=True`, "force files to be synced to permanent storage", and calls
# os.fsync on each file that it writes. For `.metadata`, without which nothing of a checkpoint can be read, it does so while
# the bytes are still in the buffer of Python's file: what is synced is a file of 0 bytes. Then it is renamed into its place,
# and save() returns. The files of tensors are whole when they are synced, since torch.save flushes.
#
# We had expected each file to have all its bytes at its fsync: a machine that loses power after save() would then have a
# checkpoint or none, and not the tensors of one with an empty `.metadata`. The cure is to open `.metadata` once more after
# save(), sync it and its folder, and only then call the checkpoint saved.
#
# Output seen:
#   at its fsync __0_0.distcp has all of its bytes
#   at its fsync .metadata has 0 of its bytes
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
import warnings
from pathlib import Path

warnings.simplefilter("ignore")
import torch
import torch.distributed.checkpoint as dcp

logging.disable(logging.ERROR)
synced = {}
fsync = os.fsync


def noted(descriptor):
    name = Path(os.readlink(f"/proc/self/fd/{descriptor}")).name.removesuffix(".tmp")
    synced[name] = os.fstat(descriptor).st_size
    fsync(descriptor)


os.fsync = noted
dcp.save({f"weight{number}": torch.ones(100) for number in range(3)}, checkpoint_id="state", no_dist=True)
there = {path.name: path.stat().st_size for path in sorted(Path("state").iterdir(), reverse=True)}
for name, size in there.items():
    print(f"at its fsync {name} has {'all' if synced[name] == size else synced[name]} of its bytes")
if (synced[".metadata"], synced["__0_0.distcp"]) != (0, there["__0_0.distcp"]):
    raise SystemExit("the behaviour has changed")
PY
venv/bin/python look.py
