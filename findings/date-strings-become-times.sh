#!/usr/bin/env bash
# pyarrow 26.0.1, datasets 5.2.0 (seen on 2026-11-28, Python 3.11)
#
# A JSON Lines file whose answers happen to be dates is not read as text. pyarrow's JSON reader turns a string field into a
# timestamp when every value of it looks like ISO 8601, at any depth: `ground_truth`, `completion`, the `content` of messages.
# `datasets` inherits it. Then
#   - a reward that compares strings compares "2026-11-28" with "2026-11-28 00:00:00" and never pays;
#   - a second shard in which one answer is a word cannot be read, and the error names the word, not the cause;
#   - one ordinary sentence in the same file makes all of them strings again, so small samples look right.
# polars keeps the strings.
#
# We had expected a string in quotes to stay a string. The cure is a schema given by hand (`Features`, `explicit_schema`).
#
# Output seen:
#   pyarrow flat: timestamp[s] 2026-11-28 00:00:00
#   pyarrow nested: timestamp[s] 2026-11-28 00:00:00
#   pyarrow with one sentence: string 2026-11-28
#   datasets: timestamp[s] 2026-11-28 00:00:00
#   datasets, second shard with a word: DatasetGenerationError
#   polars: String 2026-11-28
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q pyarrow==26.0.1 datasets==5.2.0 polars==2.1.0
cat > look.py <<'PY'
import io
import json

import datasets
import polars
import pyarrow.json

datasets.disable_progress_bars()


def lines(*rows):
    return "\n".join(json.dumps(row) for row in rows)


def table(text):
    return pyarrow.json.read_json(io.BytesIO(text.encode()))


dates = lines({"q": "When?", "truth": "2026-11-28"}, {"q": "And then?", "truth": "2026-12-01"})
found = table(dates)
print("pyarrow flat:", found.schema.field("truth").type, found["truth"][0])
found = table(lines({"turns": [{"content": "2026-11-28"}, {"content": "2026-12-01"}]}))
print("pyarrow nested:", found.schema.field("turns").type.value_type.field("content").type, found["turns"][0][0]["content"])
found = table(dates + "\n" + lines({"q": "At last?", "truth": "tomorrow"}))
print("pyarrow with one sentence:", found.schema.field("truth").type, found["truth"][0])
open("a.jsonl", "w").write(dates)
open("b.jsonl", "w").write(lines({"q": "At last?", "truth": "tomorrow"}))
read = datasets.load_dataset("json", data_files="a.jsonl", cache_dir="one")["train"]
print("datasets:", read.features["truth"].dtype, read[0]["truth"])
try:
    datasets.load_dataset("json", data_files=["a.jsonl", "b.jsonl"], cache_dir="two")
    print("datasets, second shard with a word: read")
except Exception as error:
    print("datasets, second shard with a word:", type(error).__name__)
read = polars.read_ndjson("a.jsonl")
print("polars:", read.schema["truth"], read["truth"][0])
PY
HF_HUB_OFFLINE=1 venv/bin/python look.py 2>/dev/null | tee seen
cat > expected <<'TXT'
pyarrow flat: timestamp[s] 2026-11-28 00:00:00
pyarrow nested: timestamp[s] 2026-11-28 00:00:00
pyarrow with one sentence: string 2026-11-28
datasets: timestamp[s] 2026-11-28 00:00:00
datasets, second shard with a word: DatasetGenerationError
polars: String 2026-11-28
TXT
diff expected seen && echo "as described"
