#!/usr/bin/env bash
# transformers 5.24.0, accelerate 1.15.0, torch 2.13.0 (seen on 2026-11-29, Python 3.11, CPU)
#
# `save_total_limit` keeps the checkpoints with the highest step numbers, not those that were saved last. A second run into a
# folder that holds the last two checkpoints of a longer one, with a limit of 2, deletes each of its own checkpoints as soon as
# it is written: at its end the folder holds the other run's two and none of its own, and no line says so. What `resume_from_checkpoint=True` (or
# `get_last_checkpoint`) then takes is a checkpoint of the other run. A run that was sent back to an early checkpoint,
# because the late ones had diverged, loses its saves in the same way until it has passed them, and a crash on the way
# resumes from what had diverged.
#
# We had expected the checkpoint that was saved last to be kept, as the oldest is said to be deleted. The cure is a new folder, or to
# move the later checkpoints away first.
#
# Output seen:
#   first run: checkpoint-6 (first), checkpoint-8 (first)
#   second run, saved at step 2: checkpoint-6 (first), checkpoint-8 (first)
#   second run, saved at step 4: checkpoint-6 (first), checkpoint-8 (first)
#   second run ended at step 4; the last checkpoint is checkpoint-8 (first)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0
venv/bin/pip install -q transformers==5.24.0 accelerate==1.15.0
cat > look.py <<'PY'
import json
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

TINY = LlamaConfig(vocab_size=32, hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)


def whose(folder):
    """Each run has a number of steps of its own, which its checkpoints tell."""
    state = json.loads((Path(folder) / "trainer_state.json").read_text())
    return f"{Path(folder).name} ({'first' if state['max_steps'] == 8 else 'second'})"


def kept():
    return ", ".join(whose(one) for one in sorted(Path("out").iterdir()))


class Told(TrainerCallback):
    def on_save(self, args, state, control, **more):
        if state.max_steps == 4:
            print(f"second run, saved at step {state.global_step}: {kept()}")


def train(steps):
    rows = [{"input_ids": torch.tensor([at, at + 1]), "labels": torch.tensor([at, at + 1])} for at in range(24)]
    args = TrainingArguments(
        "out", max_steps=steps, save_steps=2, save_total_limit=2, per_device_train_batch_size=2, report_to=[],
        use_cpu=True, disable_tqdm=True, logging_strategy="no",
    )
    trainer = Trainer(LlamaForCausalLM(TINY), args, train_dataset=rows, callbacks=[Told()])
    trainer.train()
    return trainer.state.global_step


train(8)
print("first run:", kept())
print(f"second run ended at step {train(4)}; the last checkpoint is {whose(get_last_checkpoint('out'))}")
PY
venv/bin/python look.py 2> errors | grep run | grep -v "^{" | tee seen
cat > expected <<'TXT'
first run: checkpoint-6 (first), checkpoint-8 (first)
second run, saved at step 2: checkpoint-6 (first), checkpoint-8 (first)
second run, saved at step 4: checkpoint-6 (first), checkpoint-8 (first)
second run ended at step 4; the last checkpoint is checkpoint-8 (first)
TXT
diff expected seen && echo "as described"
