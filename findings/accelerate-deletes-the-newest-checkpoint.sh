#!/usr/bin/env bash
# accelerate 1.15.0, torch 2.13.0 (seen on 2026-11-29, Python 3.11, CPU)
#
# With `automatic_checkpoint_naming`, `save_state()` numbers the checkpoints of a project, `total_limit` keeps the last of them,
# and `load_state()` takes the newest. A process that has loaded checkpoint_3 numbers its own saves from 0 again. What is
# deleted to make room is the lowest number, and what is loaded is the highest. So from the first resume on
#   - each save deletes the save before it, and the checkpoint that was resumed from stays;
#   - the second resume begins where the first one did: all that was trained between them is lost, without an error;
#   - once the numbers meet, a save is refused because its folder exists.
#
# We had expected the numbers to go on from what was loaded. The cure is `ProjectConfiguration(iteration=...)`, set to the
# highest number there is plus one before each run.
#
# Output seen (steps that the saved weights have seen):
#   first run:          checkpoint_2: 3, checkpoint_3: 4
#   resumed at 4, save: checkpoint_0: 5, checkpoint_3: 4
#   save:               checkpoint_1: 6, checkpoint_3: 4
#   save:               checkpoint_2: 7, checkpoint_3: 4
#   resumed again at 4
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0
venv/bin/pip install -q accelerate==1.15.0
cat > look.py <<'PY'
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration
from safetensors.torch import load_file


def begin():
    project = ProjectConfiguration("project", automatic_checkpoint_naming=True, total_limit=2)
    made = Accelerator(cpu=True, project_config=project)
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    return made, made.prepare(model)


def step_and_save(made, model):
    model.weight.data += 1
    made.save_state()


def kept():
    found = sorted(Path("project/checkpoints").iterdir())
    return ", ".join(f"{one.name}: {int(load_file(one / 'model.safetensors')['weight'])}" for one in found)


made, model = begin()
for _ in range(4):
    step_and_save(made, model)
print("first run:         ", kept())
made, model = begin()
made.load_state()
title = f"resumed at {int(model.weight)}, save:"
for _ in range(3):
    step_and_save(made, model)
    print(f"{title:19}", kept())
    title = "save:"
made, model = begin()
made.load_state()
print("resumed again at", int(model.weight))
PY
venv/bin/python look.py 2> errors | tee seen
cat > expected <<'TXT'
first run:          checkpoint_2: 3, checkpoint_3: 4
resumed at 4, save: checkpoint_0: 5, checkpoint_3: 4
save:               checkpoint_1: 6, checkpoint_3: 4
save:               checkpoint_2: 7, checkpoint_3: 4
resumed again at 4
TXT
diff expected seen && echo "as described"
