#!/usr/bin/env bash
# datasets 5.2.0, pyarrow 26.0.1 (seen on 2026-11-28, Python 3.11)
#
# Rows of which only some have a field (a `weight`, `tools`, a `ground_truth`) go into a Dataset. `Dataset.from_list` and
# `Dataset.from_generator` take the columns of the first row and leave out every field that a later row adds: no error, no
# warning, also within one batch. The same rows
#   - with the field one level deeper, in a list of messages, keep it everywhere;
#   - through `IterableDataset.from_generator` keep it in the row that has it;
#   - as a JSON Lines file keep it.
# Whether a `weight` of 0 acts depends on how the rows came in, and on whether the first row happens to have one.
#
# We had expected the union of the fields, as for nested ones. The cure is `features=`, or the field in each row.
#
# Output seen:
#   from_list: ['text']
#   from_generator: ['text']
#   the other order: ['text', 'weight']
#   one level deeper: ['text', 'weight']
#   IterableDataset: ['text', 'weight']
#   JSON Lines: ['text', 'weight']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q datasets==5.2.0 pyarrow==26.0.1
cat > look.py <<'PY'
import json
from pathlib import Path

import datasets

datasets.disable_progress_bars()
rows = [{"text": "a"}, {"text": "b", "weight": 0.0}]
cache = str(Path("cache").resolve())


def each():
    yield from rows


Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
deeper = datasets.Dataset.from_list([{"messages": [row]} for row in rows])
found = {
    "from_list": datasets.Dataset.from_list(rows).column_names,
    "from_generator": datasets.Dataset.from_generator(each, cache_dir=cache).column_names,
    "the other order": datasets.Dataset.from_list(rows[::-1]).column_names,
    "one level deeper": list(deeper[1]["messages"][0]),
    "IterableDataset": list(list(datasets.IterableDataset.from_generator(each))[1]),
    "JSON Lines": datasets.load_dataset("json", data_files="rows.jsonl", split="train", cache_dir=cache).column_names,
}
for name, columns in found.items():
    print(f"{name}: {sorted(columns)}")
short = [name for name, columns in found.items() if "weight" not in columns]
if short != ["from_list", "from_generator"]:
    raise SystemExit(f"the behaviour has changed: without the weight are {short}")
PY
HF_HUB_OFFLINE=1 HF_HOME="$folder/home" venv/bin/python look.py
