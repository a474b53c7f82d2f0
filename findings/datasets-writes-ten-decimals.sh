#!/usr/bin/env bash
# datasets 5.2.0, pandas 3.1.1, pyarrow 26.0.1 (seen on 2026-11-30, Python 3.11)
#
# `Dataset.to_json` writes every float with ten decimals, those within lists, too: it goes through pandas, whose `to_json` has this
# default. A log-probability of -0.6931471805599453 is written as -0.6931471806, and what is small vanishes: a probability
# of 2e-11 is 0.0, a learning rate of 3e-8 keeps three digits. What reads the file back takes the logarithm of 0, or compares
# with numbers that were other ones when they were sampled. Nothing warns of it; `to_parquet` and `to_csv` keep each bit.
# Integers of more than 53 bits are right.
#
# We had expected what `json.dumps` of the rows gives, which reads back to the same numbers. The cure is
# `to_json(path, double_precision=15)`, which keeps small ones better, not all; to_parquet; or json.dumps of each row.
#
# Output seen:
#   written: {"logprob":-0.6931471806,"p":[0.0,0.0000000312],"id":9007199254740993}
#   numbers that read back the same: to_json 0, to_parquet 1000, to_csv 1000, json.dumps 1000
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q datasets==5.2.0 pandas==3.1.1 pyarrow==26.0.1
cat > look.py <<'PY'
import csv
import json
import random
from pathlib import Path

from datasets import Dataset, disable_progress_bars
from pyarrow import parquet

disable_progress_bars()
Dataset.from_list([{"logprob": -0.6931471805599453, "p": [2e-11, 3.123456e-8], "id": 2**53 + 1}]).to_json("one.jsonl")
one = Path("one.jsonl").read_text().strip()
print(f"written: {one}")

draw = random.Random(0)
numbers = [-10 * draw.random() for _ in range(1000)]
data = Dataset.from_dict({"x": numbers})
data.to_json("x.jsonl")
data.to_parquet("x.parquet")
data.to_csv("x.csv")
back = {
    "to_json": [json.loads(line)["x"] for line in Path("x.jsonl").read_text().splitlines()],
    "to_parquet": parquet.read_table("x.parquet")["x"].to_pylist(),
    "to_csv": [float(row["x"]) for row in csv.DictReader(Path("x.csv").open())],
    "json.dumps": [json.loads(json.dumps(x)) for x in numbers],
}
same = {name: sum(a == b for a, b in zip(numbers, found, strict=True)) for name, found in back.items()}
print("numbers that read back the same:", ", ".join(f"{name} {count}" for name, count in same.items()))
if list(same.values()) != [0, 1000, 1000, 1000] or '[0.0,' not in one:
    raise SystemExit("the behaviour has changed")
PY
venv/bin/python look.py
