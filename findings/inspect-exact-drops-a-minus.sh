#!/usr/bin/env bash
# inspect-ai 0.3.285 (seen on 2026-11-30, Python 3.11)
#
# `exact()` and `f1()` compare an answer with the target after "normalisation": case, articles, and all punctuation. The minus sign is
# punctuation to it, and so are the signs of mathematics and of names in ASCII: "-5" is a right answer where 5 was asked for, "x<y" where
# x>y was, "C++" and "C#" where C was. Each is scored C, or 1.0. Of numbers the dot is kept ("3.14" is not 314, "3.0" is 3), as if
# they had been thought of. `match(numeric=True)` tells the two signs apart.
#
# We had expected a scorer named exact to fail an answer of the other sign. The cure is `match(numeric=True)` for numbers, and a
# scorer of one's own for expressions and names.
#
# Output seen:
#   -5 for 5: exact C, f1 1.0, match(numeric=True) I
#   x<y for x>y: exact C, f1 1.0
#   C++ for C: exact C, f1 1.0
#   3.14 for 314: exact I, f1 0.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q inspect-ai==0.3.285
cat > look.py <<'PY'
import asyncio

from inspect_ai.model import ModelName, ModelOutput
from inspect_ai.scorer import Target, exact, f1, match
from inspect_ai.solver import TaskState


def score(scorer, answer, target):
    output = ModelOutput.from_content("m", answer)
    state = TaskState(
        model=ModelName("mockllm/model"), sample_id=1, epoch=1, input="question", messages=[], output=output
    )
    return asyncio.run(scorer(state, Target(target))).value


seen = []
for answer, target in (("-5", "5"), ("x<y", "x>y"), ("C++", "C"), ("3.14", "314")):
    found = [score(exact(), answer, target), score(f1(), answer, target)]
    more = ""
    if answer == "-5":
        found.append(score(match(numeric=True), answer, target))
        more = f", match(numeric=True) {found[2]}"
    print(f"{answer} for {target}: exact {found[0]}, f1 {found[1]}{more}")
    seen.append(found)
if seen != [["C", 1.0, "I"], ["C", 1.0], ["C", 1.0], ["I", 0.0]]:
    raise SystemExit("the behaviour has changed")
PY
venv/bin/python look.py
