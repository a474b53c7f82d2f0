#!/usr/bin/env bash
# datasets 5.2.0, torchdata 0.11.0, torch 2.13.0 (seen on 2026-11-29, Python 3.11, CPU)
#
# An `IterableDataset` keeps the state that it was resumed from, and begins each pass there whose epoch, as `set_epoch` told it,
# is the one that the state was taken in. Where the loop does not call `set_epoch`, since nothing is shuffled, that is every
# pass: a run that was cut behind five of eight rows trains, from then on, in every epoch, on the last three alone. A
# StatefulDataLoader over it does the same with num_workers=0. Where the loop does call it, two more things follow:
#   - a state of epoch 1 that is loaded before `set_epoch(1)` was called is left out in silence: the pass begins anew, in the
#     order of epoch 0. The number of the epoch is in the state; it is compared, and not restored;
#   - a state that is taken after a resume, and before the first row is drawn, is that of the beginning.
#
# We had expected the pass after a resumed one to have all rows, and the state to bring its epoch. The cure is to call
# `set_epoch` with the right number before each pass, and to save once a row was drawn.
#
# Output seen:
#   passes after a resume behind five rows: [5, 6, 7] [5, 6, 7] [5, 6, 7]
#   through a StatefulDataLoader: [5, 6, 7] [5, 6, 7] [5, 6, 7]
#   with set_epoch before each: [5, 6, 7] [0, 1, 2, 3, 4, 5, 6, 7] [0, 1, 2, 3, 4, 5, 6, 7]
#   a state of epoch 1, set_epoch(1) called: 3 rows; not called: 8 rows
#   resumed and saved at once, then resumed: 8 rows
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0
venv/bin/pip install -q datasets==5.2.0 torchdata==0.11.0
cat > look.py <<'PY'
from datasets import Dataset
from torchdata.stateful_dataloader import StatefulDataLoader


def stream(state=None):
    made = Dataset.from_dict({"row": range(8)}).to_iterable_dataset(num_shards=2).map(lambda row: row)
    if state is not None:
        made.load_state_dict(state)
    return made


def rows(source):
    return [row for one in source for row in (one["row"].tolist() if hasattr(one["row"], "tolist") else [one["row"]])]


def cut(source):
    """The state behind five rows."""
    for number, _ in enumerate(source, start=1):
        if number == 5:
            return source.state_dict()


state = cut(stream())
resumed = stream(state)
print("passes after a resume behind five rows:", *(rows(resumed) for _ in range(3)))
loader = StatefulDataLoader(stream(), batch_size=1)
kept = cut(loader)
loader = StatefulDataLoader(stream(), batch_size=1)
loader.load_state_dict(kept)
print("through a StatefulDataLoader:", *(rows(loader) for _ in range(3)))
resumed, passes = stream(state), []
for epoch in range(3):
    resumed.set_epoch(epoch)
    passes.append(rows(resumed))
print("with set_epoch before each:", *passes)
second = stream()
second.set_epoch(1)
later = cut(second)
told, untold = stream(later), stream(later)
told.set_epoch(1)
print(f"a state of epoch 1, set_epoch(1) called: {len(rows(told))} rows; not called: {len(rows(untold))} rows")
print(f"resumed and saved at once, then resumed: {len(rows(stream(stream(state).state_dict())))} rows")
PY
venv/bin/python look.py 2> errors | tee seen
cat > expected <<'TXT'
passes after a resume behind five rows: [5, 6, 7] [5, 6, 7] [5, 6, 7]
through a StatefulDataLoader: [5, 6, 7] [5, 6, 7] [5, 6, 7]
with set_epoch before each: [5, 6, 7] [0, 1, 2, 3, 4, 5, 6, 7] [0, 1, 2, 3, 4, 5, 6, 7]
a state of epoch 1, set_epoch(1) called: 3 rows; not called: 8 rows
resumed and saved at once, then resumed: 8 rows
TXT
diff expected seen && echo "as described"
