#!/usr/bin/env bash
# accelerate 1.15.0, torch 2.13.0 (seen on 2026-11-29, Python 3.11, CPU)
#
# A run saves with `save_state()` under `ProjectConfiguration(automatic_checkpoint_naming=True, total_limit=2)`, is interrupted,
# and goes on with `load_state()`, which takes the checkpoint with the highest number. It does not take over the number: the
# saves of the second run are checkpoint_0, checkpoint_1 and so on, and `total_limit` deletes the lowest numbers first. So each
# of them is deleted by the save after it, the old highest number stays, and the third run begins where the second did. All of
# the second run's work is gone; what is logged is that room is made for a new checkpoint. Without `total_limit` the first save
# after a resume fails, since there is a checkpoint_0; with it there is none any more.
#
# We had expected the numbers to go on, or the oldest to be deleted. The cure is `iteration=` of the ProjectConfiguration, one
# more than the highest number in the folder.
#
# Output seen:
#   first: begins at step 0, ends at step 6, keeps checkpoint_4, checkpoint_5
#   second: begins at step 6, ends at step 9, keeps checkpoint_2, checkpoint_5
#   third: begins at step 6, ends at step 9, keeps checkpoint_2, checkpoint_5
#   with iteration=6: begins at step 6, ends at step 9, keeps checkpoint_7, checkpoint_8
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0
venv/bin/pip install -q accelerate==1.15.0
cat > run.py <<'PY'
import os
import sys

import torch
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration

folder, saves, first = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
settings = {"project_dir": folder, "automatic_checkpoint_naming": True, "total_limit": 2, "iteration": first}
accelerator = Accelerator(cpu=True, project_config=ProjectConfiguration(**settings))
model = torch.nn.Linear(1, 1, bias=False)
torch.nn.init.zeros_(model.weight)
model = accelerator.prepare(model)
if os.path.exists(f"{folder}/checkpoints"):
    accelerator.load_state()
began = int(model.weight.item())
for _ in range(saves):
    with torch.no_grad():
        model.weight += 1  # a step
    accelerator.save_state()
kept = ", ".join(sorted(os.listdir(f"{folder}/checkpoints")))
print(f"begins at step {began}, ends at step {int(model.weight.item())}, keeps {kept}")
PY
first=$(venv/bin/python run.py run 6 0 2>/dev/null)
cp -r run other
second=$(venv/bin/python run.py run 3 0 2>/dev/null)
third=$(venv/bin/python run.py run 3 0 2>/dev/null)
cured=$(venv/bin/python run.py other 3 6 2>/dev/null)
printf '%s\n' "first: $first" "second: $second" "third: $third" "with iteration=6: $cured"
if [ "$third" != "$second" ] || [ "$second" != "begins at step 6, ends at step 9, keeps checkpoint_2, checkpoint_5" ]; then
    echo "the behaviour has changed" >&2
    exit 1
fi
