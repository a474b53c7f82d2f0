#!/usr/bin/env bash
# polars 2.1.0 (seen on 2026-11-30, Python 3.11)
#
# Rollouts as dictionaries go into `pl.DataFrame(rows)`. The types are those of the first hundred rows. What does not fit them
# further on is an error where it is text; a number is changed in silence: behind a hundred rewards of 0 or 1 a reward of 1.9
# is 1 and one of -0.5 is 0, and behind a hundred of True and False both 0.5 and 3 are False. It is so within objects and
# lists, and there for columns given as lists, too. Fields that begin later are left out.
# `pl.read_ndjson` of the same rows refuses the numbers, and loses something else: behind a hundred rows with an empty list
# (`"tool_calls": []`) the strings of a list that has some are null, in a list of the right length.
#
# We had expected the error that `pl.DataFrame({"reward": [...]})` gives for the same numbers. The cure is
# `infer_schema_length=None`, or a schema.
#
# Output seen:
#   row 101 of a table: 1.9 -> 1, -0.5 -> 0, 0.5 behind booleans -> False, 3 behind booleans -> False
#   in an object: 1, in a list: [1]; as a column of numbers: TypeError
#   with infer_schema_length=None: [1.9, -0.5]
#   read_ndjson, numbers: ComputeError; lists: [None, None]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q polars==2.1.0
cat > look.py <<'PY'
import json
from pathlib import Path

import polars as pl


def rows(first, *later):
    return [{"r": first}] * 100 + [{"r": value} for value in later]


def table(first, *later, **settings):
    return pl.DataFrame(rows(first, *later), **settings)["r"][100:].to_list()


def lines(first, *later):
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(first, *later)))
    return pl.read_ndjson("rows.jsonl")["r"][100:].to_list()


def error(call):
    try:
        call()
    except Exception as raised:
        return type(raised).__name__
    return "no error"


numbers = table(0, 1.9, -0.5) + table(True, 0.5, 3)
print("row 101 of a table: 1.9 -> {}, -0.5 -> {}, 0.5 behind booleans -> {}, 3 behind booleans -> {}".format(*numbers))
nested = [table({"score": 1}, {"score": 1.9})[0]["score"], table([1], [1.9])[0]]
column = error(lambda: pl.DataFrame({"r": [0] * 100 + [1.9]}))
print(f"in an object: {nested[0]}, in a list: {nested[1]}; as a column of numbers: {column}")
whole = table(0, 1.9, -0.5, infer_schema_length=None)
print(f"with infer_schema_length=None: {whole}")
refused, lists = error(lambda: lines(0, 1.9)), lines([], ["search", "read"])[0]
print(f"read_ndjson, numbers: {refused}; lists: {lists}")
kinds = [numbers, nested, column, whole, refused, lists]
if kinds != [[1, 0, False, False], [1, [1]], "TypeError", [1.9, -0.5], "ComputeError", [None, None]]:
    raise SystemExit("the behaviour has changed")
PY
venv/bin/python look.py
