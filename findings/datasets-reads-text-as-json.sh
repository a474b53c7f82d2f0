#!/usr/bin/env bash
# datasets 5.2.0, pyarrow 26.0.1 (seen on 2026-11-29, Python 3.11)
#
# Chats in JSON Lines, as `load_dataset("json", ...)` reads them. As long as each content is text, it stays text. Once one content
# in the file is a list of parts, as OpenAI's form allows, all contents become a column of JSON, and text that happens to be
# JSON is read as such: the answer "42" becomes the number 42, "null" becomes None, '{"b": 1}' becomes an object, which a chat
# template writes in Python's way. Rows of a structured-output data set change, and those beside them do not. A column with
# numbers and text does the same: "012" is 12.
# Across files (and behind the first 10 MB of one) there is a second door to it: the first file's types are taken for all, and text
# is parsed where the first file has numbers or booleans. Only text that is no number is an error.
#
# We had expected what stands in quotes to stay text, or an error. The cure for contents is to write all of them as text, or all as
# parts; for columns of one kind, `features=`.
#
# Output seen:
#   contents, all text: ['42', 'null', '{"b": 1}', 'hello']
#   contents, one with parts: [42, None, {'b': 1}, 'hello', [{'type': 'text', 'text': 'x'}]]
#   a column of one file: [7, 12, 'twelve']
#   two files, numbers first: [7, 12, 1000]
#   two files, text first: ['012', '7']
#   two files, booleans first: [True, True]
#   two files, the second has a word: DatasetGenerationError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q datasets==5.2.0 pyarrow==26.0.1
cat > look.py <<'PY'
import itertools
import json
import os
from pathlib import Path

os.environ["HF_HOME"] = str(Path("cache").resolve())
import datasets

datasets.disable_progress_bars()
datasets.logging.set_verbosity_error()
numbers = itertools.count()


def read(*files):
    names = []
    for rows in files:
        names.append(f"{next(numbers)}.jsonl")
        Path(names[-1]).write_text("".join(json.dumps(row) + "\n" for row in rows))
    try:
        return list(datasets.load_dataset("json", data_files=names, split="train"))
    except Exception as error:
        return type(error).__name__


def contents(*said):
    rows = read([{"messages": [{"role": "assistant", "content": one}]} for one in said])
    return [row["messages"][0].get("content") for row in rows]


def column(*files):
    rows = read(*([{"a": one} for one in file] for file in files))
    return rows if isinstance(rows, str) else [row["a"] for row in rows]


ANSWERS = ("42", "null", '{"b": 1}', "hello")
print("contents, all text:", contents(*ANSWERS))
print("contents, one with parts:", contents(*ANSWERS, [{"type": "text", "text": "x"}]))
print("a column of one file:", column([7, "012", "twelve"]))
print("two files, numbers first:", column([7], ["012", "1000"]))
print("two files, text first:", column(["012"], [7]))
print("two files, booleans first:", column([True], [2]))
print("two files, the second has a word:", column([7], ["twelve"]))
PY
venv/bin/python look.py 2> errors | tee seen
cat > expected <<'TXT'
contents, all text: ['42', 'null', '{"b": 1}', 'hello']
contents, one with parts: [42, None, {'b': 1}, 'hello', [{'type': 'text', 'text': 'x'}]]
a column of one file: [7, 12, 'twelve']
two files, numbers first: [7, 12, 1000]
two files, text first: ['012', '7']
two files, booleans first: [True, True]
two files, the second has a word: DatasetGenerationError
TXT
diff expected seen && echo "as described"
