#!/usr/bin/env bash
# transformers 5.24.0, accelerate 1.15.0, torch 2.13.0 (seen on 2026-11-29, Python 3.11, CPU)
#
# A job that is started again with `resume_from_checkpoint=True` until it has succeeded meets its own last checkpoint. Where the
# last step (`max_steps`, or a part of an epoch in `num_train_epochs`) is the end of an epoch, nothing is trained. Where it
# lies within an epoch, the Trainer takes one more step before it sees that it has enough, and saves it as a checkpoint of its
# own: 8 steps become 9, and 10 with the next start. With a schedule that ends at 0 the weights stay; with "constant" they
# are other weights each time, and the newest checkpoint is what an export takes.
#
# We had expected a finished run to train nothing. The cure is to compare `global_step` in trainer_state.json first.
#
# Output seen:
#   constant, 12 of 12 steps an epoch: steps 12, 12, 12; same weights True
#   linear, 8 of 12 steps an epoch: steps 8, 9, 10; same weights True
#   constant, 8 of 12 steps an epoch: steps 8, 9, 10; same weights False
#   kept: checkpoint-10, checkpoint-4, checkpoint-8, checkpoint-9
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0
venv/bin/pip install -q transformers==5.24.0 accelerate==1.15.0
cat > look.py <<'PY'
import os
import tempfile

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

TINY = LlamaConfig(vocab_size=32, hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)


def train(folder, steps, schedule, resumed):
    rows = [{"input_ids": torch.tensor([at, at + 1]), "labels": torch.tensor([at, at + 1])} for at in range(24)]
    args = TrainingArguments(
        folder, max_steps=steps, save_steps=4, per_device_train_batch_size=2, lr_scheduler_type=schedule, report_to=[],
        use_cpu=True, disable_tqdm=True, logging_strategy="no",
    )
    trainer = Trainer(LlamaForCausalLM(TINY), args, train_dataset=rows)
    trainer.train(resume_from_checkpoint=resumed)
    return trainer.state.global_step, trainer.model.lm_head.weight.detach().clone()


for schedule, steps in (("constant", 12), ("linear", 8), ("constant", 8)):
    with tempfile.TemporaryDirectory() as folder:
        found = [train(folder, steps, schedule, resumed) for resumed in (None, True, True)]
        same = all(torch.equal(weights, found[0][1]) for _, weights in found)
        taken = ", ".join(str(step) for step, _ in found)
        print(f"{schedule}, {steps} of 12 steps an epoch: steps {taken}; same weights {same}")
        kept = ", ".join(sorted(os.listdir(folder)))
print(f"kept: {kept}")
PY
venv/bin/python look.py 2> errors | grep "steps\|kept" | grep -v "^{" | tee seen
cat > expected <<'TXT'
constant, 12 of 12 steps an epoch: steps 12, 12, 12; same weights True
linear, 8 of 12 steps an epoch: steps 8, 9, 10; same weights True
constant, 8 of 12 steps an epoch: steps 8, 9, 10; same weights False
kept: checkpoint-10, checkpoint-4, checkpoint-8, checkpoint-9
TXT
diff expected seen && echo "as described"
