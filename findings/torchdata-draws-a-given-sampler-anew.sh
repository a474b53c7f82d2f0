#!/usr/bin/env bash
# torchdata 0.11.0, torch 2.13.0 (seen on 2026-11-30, Python 3.11, CPU)
#
# A StatefulDataLoader with `shuffle=True` is resumed in the middle of an epoch, with torch's global random state restored by
# hand, and gives exactly the rows that were left. With the same sampler given by hand (torch's RandomSampler,
# SubsetRandomSampler, or a BatchSampler over one), the state holds a number of batches and no order: another permutation is
# drawn, that many batches of it are skipped, and of the rest of the epoch some rows were trained on already and as many are
# never seen. Lengths are right.
#
# We had expected torch's own samplers to resume as they do inside `shuffle=True`. The cure is
# `torchdata.stateful_dataloader.sampler`, whose classes of the same names have a state, or torch's random state as it was at
# the beginning of the epoch.
#
# Output seen:
#   shuffle=True: rest equal True, 0 rows twice, 0 never; next epoch equal True
#   sampler=RandomSampler: rest equal False, 6 rows twice, 6 never; next epoch equal False
#   sampler=SubsetRandomSampler: rest equal False, 7 rows twice, 7 never; next epoch equal False
#   batch_sampler=BatchSampler: rest equal False, 6 rows twice, 6 never; next epoch equal False
#   batch_sampler of torchdata: rest equal True, 0 rows twice, 0 never; next epoch equal True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0
venv/bin/pip install -q numpy torchdata==0.11.0
cat > look.py <<'PY'
import warnings

warnings.simplefilter("ignore")
import torch
from torch.utils.data import BatchSampler, RandomSampler, SubsetRandomSampler
from torchdata.stateful_dataloader import StatefulDataLoader
from torchdata.stateful_dataloader import sampler as theirs

DATA = list(range(24))
WAYS = {
    "shuffle=True": lambda: StatefulDataLoader(DATA, batch_size=2, shuffle=True),
    "sampler=RandomSampler": lambda: StatefulDataLoader(DATA, batch_size=2, sampler=RandomSampler(DATA)),
    "sampler=SubsetRandomSampler": lambda: StatefulDataLoader(DATA, batch_size=2, sampler=SubsetRandomSampler(DATA)),
    "batch_sampler=BatchSampler": lambda: StatefulDataLoader(
        DATA, batch_sampler=BatchSampler(RandomSampler(DATA), 2, drop_last=False)
    ),
    "batch_sampler of torchdata": lambda: StatefulDataLoader(
        DATA, batch_sampler=theirs.BatchSampler(theirs.RandomSampler(DATA), 2, drop_last=False)
    ),
}


def rows(batches):
    return [int(row) for batch in batches for row in batch]


for name, way in WAYS.items():
    torch.manual_seed(1)
    whole = way()
    batches = iter(whole)
    before = rows([next(batches) for _ in range(5)])
    state, chance = whole.state_dict(), torch.get_rng_state()
    rest, later = rows(batches), rows(whole)
    torch.manual_seed(99)
    resumed = way()
    resumed.load_state_dict(state)
    torch.set_rng_state(chance)
    found = rows(resumed)
    twice, never = len(set(before) & set(found)), len(set(DATA) - set(before) - set(found))
    print(f"{name}: rest equal {found == rest}, {twice} rows twice, {never} never;", end=" ")
    print("next epoch equal", rows(resumed) == later)
PY
venv/bin/python look.py 2>/dev/null | tee seen
cat > expected <<'TXT'
shuffle=True: rest equal True, 0 rows twice, 0 never; next epoch equal True
sampler=RandomSampler: rest equal False, 6 rows twice, 6 never; next epoch equal False
sampler=SubsetRandomSampler: rest equal False, 7 rows twice, 7 never; next epoch equal False
batch_sampler=BatchSampler: rest equal False, 6 rows twice, 6 never; next epoch equal False
batch_sampler of torchdata: rest equal True, 0 rows twice, 0 never; next epoch equal True
TXT
diff expected seen && echo "as described"
