#!/usr/bin/env bash
# torch 2.13.0 (seen on 2026-11-28, Python 3.11, CPU)
#
# What `torch.distributed.checkpoint` raises when a load or a save fails, CheckpointException, is no Exception: it derives from
# BaseException, beside KeyboardInterrupt and SystemExit. A loop that tries the newest checkpoint and falls back to the one
# before it under `except Exception` never falls back: the error leaves the loop, and the run ends. So does an error handler
# of a thread pool's worker that logs and goes on. torch.load of a missing file raises an ordinary FileNotFoundError.
#
# We had expected the fallback to be taken. The cure is to name CheckpointException.
#
# Output seen:
#   the newest has another shape: ValueError inside CheckpointException, is an Exception: False
#   fallback under `except Exception`: not reached
#   fallback under `except CheckpointException`: step 1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0
venv/bin/pip install -q numpy
cat > look.py <<'PY'
import logging
import tempfile
import warnings

warnings.simplefilter("ignore")
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import CheckpointException

logging.disable(logging.ERROR)
folders = {step: tempfile.mkdtemp() for step in (1, 2)}
dcp.save({"weight": torch.ones(2), "step": 1}, checkpoint_id=folders[1])
dcp.save({"weight": torch.ones(3), "step": 2}, checkpoint_id=folders[2])


def newest(kinds):
    for step in (2, 1):
        state = {"weight": torch.zeros(2), "step": 0}
        try:
            dcp.load(state, checkpoint_id=folders[step])
            return f"step {state['step']}"
        except kinds:
            continue
    return "nothing"


try:
    usual = newest(Exception)
except BaseException as error:
    usual = "not reached"
    inside = type(next(iter(error.failures.values()))[0]).__name__
    ordinary = isinstance(error, Exception)
    print(f"the newest has another shape: {inside} inside {type(error).__name__}, is an Exception: {ordinary}")
print(f"fallback under `except Exception`: {usual}")
named = newest(CheckpointException)
print(f"fallback under `except CheckpointException`: {named}")
if (usual, named) != ("not reached", "step 1"):
    raise SystemExit("the behaviour has changed")
PY
venv/bin/python look.py
