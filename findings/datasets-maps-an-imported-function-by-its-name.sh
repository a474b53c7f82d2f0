#!/usr/bin/env bash
# datasets 5.2.0, dill 0.4.1, pyarrow 26.0.1 (seen on 2026-11-29, Python 3.11)
#
# `Dataset.map` keeps its result under a digest of the function. A function that is written in the program itself is digested
# by its code and by what it reads: change either and the rows are made anew, also where it reads a constant of another
# module. A function that is imported from a module beside the program is digested by its name: change its code, and the
# second run takes the rows of the first, without a word. Rows that were cut, masked or tokenised by the old code train the
# new run.
#
# We had expected both to be noticed, or neither. The cure is a function in the program around the imported one: the module
# that it reads is then digested with what is in it. Or `load_from_cache_file=False`.
#
# Output seen (words kept of four, where the code says how many):
#   first run, two words: in the program 2, a constant of a module 2, around the imported one 2, imported 2
#   second run, three words: in the program 3, a constant of a module 3, around the imported one 3, imported 2
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q datasets==5.2.0 dill==0.4.1 pyarrow==26.0.1
printf '{"text": "one two three four"}\n' > rows.jsonl
cat > program.py <<'PY'
import datasets
import preparation

datasets.disable_progress_bars()
rows = datasets.load_dataset("json", data_files="rows.jsonl", split="train", cache_dir="cache")


def here(row):
    return {"kept": len(row["text"].split()[:HERE])}


def constant(row):
    return {"kept": len(row["text"].split()[: preparation.WORDS])}


def around(row):
    return preparation.cut(row)


told = {
    "in the program": rows.map(here),
    "a constant of a module": rows.map(constant),
    "around the imported one": rows.map(around),
    "imported": rows.map(preparation.cut),
}
print(", ".join(f"{name} {made[0]['kept']}" for name, made in told.items()))
PY
run() {
  rm -rf __pycache__
  printf 'WORDS = %s\n\n\ndef cut(row):\n    return {"kept": len(row["text"].split()[:%s])}\n' "$1" "$1" > preparation.py
  sed "s/HERE/$1/" program.py > main.py
  HF_HUB_OFFLINE=1 HF_HOME="$folder/home" venv/bin/python main.py
}
first=$(run 2)
second=$(run 3)
printf 'first run, two words: %s\nsecond run, three words: %s\n' "$first" "$second"
[ "$first" = "in the program 2, a constant of a module 2, around the imported one 2, imported 2" ] &&
  [ "$second" = "in the program 3, a constant of a module 3, around the imported one 3, imported 2" ] || {
  echo "the behaviour has changed"
  exit 1
}
