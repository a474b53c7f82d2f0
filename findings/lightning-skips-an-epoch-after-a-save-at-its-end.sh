#!/usr/bin/env bash
# lightning 2.6.6, torchdata 0.11.0, torch 2.13.0 (seen on 2026-11-29, Python 3.11, CPU)
#
# lightning keeps the state of a loader that has one in its checkpoints, so a StatefulDataLoader resumes in the middle of an
# epoch where a plain loader begins it anew. `ModelCheckpoint(every_n_train_steps=3)` over epochs of six batches saves at the
# last batch of each epoch, too. From such a checkpoint the plain loader is right, and the stateful one is not: it resumes into
# an epoch of no batches, which lightning counts as one that was trained. A run of three epochs that is resumed behind its
# first trains two of them in all; resumed behind its second it ends at once, as finished. No error, no warning.
#
# We had expected both loaders to go on with the next epoch. The cure is a number of steps that does not fall on the last
# batch, or to save at the ends of epochs (`every_n_epochs`), which is right with both.
#
# Output seen:
#   DataLoader, every 3 steps: resumed at 6, 18 steps at the end; resumed at 12, 18 steps at the end
#   StatefulDataLoader, every 3 steps: resumed at 6, 12 steps at the end; resumed at 12, 12 steps at the end
#   StatefulDataLoader, every epoch: resumed at 6, 18 steps at the end; resumed at 12, 18 steps at the end
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0
venv/bin/pip install -q lightning==2.6.6 torchdata==0.11.0 numpy
cat > look.py <<'PY'
import logging
import tempfile
import warnings

warnings.simplefilter("ignore")
import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Model(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, at):
        return self.layer(batch.float()[:, None]).pow(2).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.001)


def fit(loader, folder, often, resumed_from=None):
    saves = ModelCheckpoint(folder, filename="{step}", save_top_k=-1, **often)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = lightning.Trainer(accelerator="cpu", max_epochs=3, callbacks=[saves], **quiet)
    trainer.fit(Model(), loader(list(range(12)), batch_size=2), ckpt_path=resumed_from, weights_only=True)
    return trainer.global_step


for loader, often in (
    (DataLoader, {"every_n_train_steps": 3}),
    (StatefulDataLoader, {"every_n_train_steps": 3}),
    (StatefulDataLoader, {"every_n_epochs": 1}),
):
    with tempfile.TemporaryDirectory() as folder:
        fit(loader, folder, often)
        found = []
        for step in (6, 12):
            with tempfile.TemporaryDirectory() as other:
                taken = fit(loader, other, often, f"{folder}/step={step}.ckpt")
            found.append(f"resumed at {step}, {taken} steps at the end")
        print(f"{loader.__name__}, every {'epoch' if 'every_n_epochs' in often else '3 steps'}: {'; '.join(found)}")
PY
venv/bin/python look.py 2> errors | grep "at the end" | tee seen
cat > expected <<'TXT'
DataLoader, every 3 steps: resumed at 6, 18 steps at the end; resumed at 12, 18 steps at the end
StatefulDataLoader, every 3 steps: resumed at 6, 12 steps at the end; resumed at 12, 12 steps at the end
StatefulDataLoader, every epoch: resumed at 6, 18 steps at the end; resumed at 12, 18 steps at the end
TXT
diff expected seen && echo "as described"
